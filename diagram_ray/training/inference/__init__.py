"""What trained networks say of images: scores, predictors, heat maps, generated samples."""
