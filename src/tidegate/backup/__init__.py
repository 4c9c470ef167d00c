"""Never lost: backups of the embedded warehouse, the WAL between them, and the way back; nothing about schedules."""
