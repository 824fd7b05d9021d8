"""What was mined, as covariates for the network: the training panel."""
