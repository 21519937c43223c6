"""How units get done: the driver plans a run, keeps actors busy, survives their deaths, and reports."""
