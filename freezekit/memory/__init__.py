"""The memory of tensors, real or fake: live storages, fake models, and what operators hold."""
