"""The probe: what making layers sparse costs."""
