"""A stand-in for providers of language models: their wire formats, without a model behind them.

`connection` speaks HTTP/1.1, `requests` reads what is asked for, `plan` decides what is answered, `dialects` and
`refusals` write it as a provider would, `behaviour` says what goes wrong, `exchange` does all of it for one request, and
`ledger` keeps what was received and billed.
"""
