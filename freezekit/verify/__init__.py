"""The proof that frozen is frozen: a copy of the model is trained, and each claim checked on it."""

from freezekit.verify.entry import verify_frozen, verify_model
from freezekit.verify.records import Check, ScheduleVerification, Verification

__all__ = ["Check", "ScheduleVerification", "Verification", "verify_frozen", "verify_model"]
