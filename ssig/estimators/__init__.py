"""Estimators of gradient integration: samplers, integrands, quadratures, and when to stop."""
