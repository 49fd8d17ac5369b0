"""A campaign of generated requests: two owners, every scope, keys and sessions, every odd value.

`values` draws odd text, numbers and moments; `requests` draws whole requests from the OpenAPI
document; `world` makes the owners' things and knows their ids; `watch` judges every answer;
`sending` sends drawn requests; `links` goes along the document's links with Schemathesis.
"""
