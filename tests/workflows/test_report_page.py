"""What the report says of a training."""

from workflows.report_page import training_row


def test_a_training_is_told_by_its_last_twentieth_and_its_last_validation():
    records = [{"step": step, "loss": 5.0 if step <= 38 else float(step)} for step in range(1, 41)]
    records[20:20] = [{"step": 20, "validation_loss": 7.0}]
    model = {"pretraining": {"parameters": 12, "step": 40, "loss": 40.0}}
    row = {"name": "small", "parameters": 12, "steps": 40, "loss": 39.5, "validation_loss": 7.0}
    assert training_row("small", model, records) == row
    records.append({"step": 40, "validation_loss": 6.0})
    assert training_row("small", model, records)["validation_loss"] == 6.0
    assert training_row("small", model, records[:3])["validation_loss"] is None
