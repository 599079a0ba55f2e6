"""What a user of exkiq writes: one worker that sends one mail."""

from __future__ import annotations

import os
import smtplib
from email.message import EmailMessage

from exkiq import Worker


class EmailWorker(Worker, queue="emails", retries=5):
    """Sends a mail to the server that DEMO_SMTP names."""

    def perform(self, to: str, subject: str) -> None:
        mail = EmailMessage()
        mail["From"] = "demo@exkiq.example"
        mail["To"] = to
        mail["Subject"] = subject
        # the server counts by these: a job that ran twice shows as the same id twice
        mail["X-Job"] = self.job.id
        mail["X-Node"] = os.environ["EXKIQ_NAME"]
        mail.set_content(f"{subject}, sent by a background job.")
        host, port = os.environ["DEMO_SMTP"].rsplit(":", 1)
        with smtplib.SMTP(host, int(port), timeout=10) as server:
            server.send_message(mail)
