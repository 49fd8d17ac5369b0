"""The generative core: tensors in, tensors out. No database, file service or HTTP.

Empty on purpose: `datagen.model.config` and `datagen.model.header` are read by processes that
must not import torch.
"""
