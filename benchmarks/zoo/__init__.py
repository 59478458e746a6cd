"""Every model of timm and torchvision: staged, frozen and verified, and what others reach."""
