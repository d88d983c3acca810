"""The forecasting job: from a table to a trained, measured and saved forecaster, and its use."""
