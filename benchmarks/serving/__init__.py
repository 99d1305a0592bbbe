"""How fast the server answers, beside what it could do at best and what other libraries do."""
