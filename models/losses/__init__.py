"""Losses: plain functions of tensors, and layers around those that have settings of their own."""

from models.losses.alignment import CategoryAlignmentLoss, category_alignment_loss
from models.losses.in_batch_softmax import in_batch_softmax
from models.losses.mimic import MimicLoss, mimic_loss
from models.losses.sampled_bce import sampled_bce
from models.losses.sampled_softmax import sampled_softmax
from models.losses.scores import scores, scores_of_all

__all__ = [
    "CategoryAlignmentLoss",
    "MimicLoss",
    "category_alignment_loss",
    "in_batch_softmax",
    "mimic_loss",
    "sampled_bce",
    "sampled_softmax",
    "scores",
    "scores_of_all",
]
