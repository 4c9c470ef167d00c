"""What people and other machines are told about the platform: report, alerts, logs."""
