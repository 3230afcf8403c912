"""What happened in a run, as numbered events: derived from the record's changes, kept with it, sent to the event bus.

`derive` turns one change of the Runs table into events, `log` numbers and keeps them; `jobs.publish_events` is the
consumer of the table's stream that does both and sends them. docs/events.md describes the events.
"""
