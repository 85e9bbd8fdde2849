"""Views of a study while it runs: terminal, browser, TensorBoard, MLflow, Optuna's dashboard."""
