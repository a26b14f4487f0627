"""What tests share: instances, sinks, waiting."""
