"""Tables of time series: read, checked, laid out flat, split by time, cut into windows."""
