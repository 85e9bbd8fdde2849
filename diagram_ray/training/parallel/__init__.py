"""Several processes or threads that train together: processes that share minibatches, folds side by side."""
