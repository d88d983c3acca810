"""Forecasting: batches of windows, back-tests at every origin, metrics, baselines."""
