"""Who this device is at home: its enrolment, its certificate, and the certificate's renewal."""
