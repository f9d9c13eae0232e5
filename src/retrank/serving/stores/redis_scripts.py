"""What a store in Redis is made of: its keys, and the scripts that write, each as a whole.

    {retrank}:store        hash: identity, version, position of the last change, position of the last impression
    {retrank}:event-ids    set of the ids of all events
    {retrank}:events       stream of events; the first part of an entry's id is its position
    {retrank}:documents    hash of the latest content of each kind and key; its first byte tells "" from deleted
    {retrank}:order        sorted set of the same, by position
    {retrank}:impressions  stream

The braces keep all keys on one node of a cluster.
"""

from typing import Final

__all__ = [
    "APPEND",
    "CHANGES",
    "CREATE",
    "DOCUMENTS",
    "EVENTS",
    "EVENT_IDS",
    "IMPRESSIONS",
    "LOG",
    "ORDER",
    "PUT",
    "STORE",
]

STORE: Final = "{retrank}:store"
EVENT_IDS: Final = "{retrank}:event-ids"
EVENTS: Final = "{retrank}:events"
DOCUMENTS: Final = "{retrank}:documents"
ORDER: Final = "{retrank}:order"
IMPRESSIONS: Final = "{retrank}:impressions"

CREATE: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('HSET', KEYS[1], 'identity', ARGV[1], 'version', ARGV[2], 'position', 0, 'impressions', 0)
end
return redis.call('HMGET', KEYS[1], 'identity', 'version')
"""

# A server that was emptied, or another in its place, has another identity or none: nothing is written there.
_RECOGNISE: Final = """
if redis.call('HGET', KEYS[1], 'identity') ~= ARGV[1] then
    return redis.error_reply('RETRANK another store, or none')
end
"""

APPEND: Final = (
    _RECOGNISE
    + """
local first = tonumber(redis.call('HGET', KEYS[1], 'position'))
local position = first
local are_new = {}
for i = 2, #ARGV, 2 do
    local is_new = redis.call('SADD', KEYS[2], ARGV[i])
    if is_new == 1 then
        position = position + 1
        redis.call('XADD', KEYS[3], string.format('%.0f-0', position), 'event', ARGV[i + 1])
    end
    are_new[#are_new + 1] = is_new
end
if position > first then
    redis.call('HSET', KEYS[1], 'position', string.format('%.0f', position))
end
return are_new
"""
)

PUT: Final = (
    _RECOGNISE
    + """
local position = tonumber(redis.call('HGET', KEYS[1], 'position'))
for i = 2, #ARGV, 2 do
    position = position + 1
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    redis.call('ZADD', KEYS[3], string.format('%.0f', position), ARGV[i])
end
redis.call('HSET', KEYS[1], 'position', string.format('%.0f', position))
"""
)

LOG: Final = (
    _RECOGNISE
    + """
local position = tonumber(redis.call('HGET', KEYS[1], 'impressions'))
for i = 2, #ARGV, 3 do
    position = position + 1
    redis.call('XADD', KEYS[2], string.format('%.0f-0', position),
        'list', ARGV[i], 'scores', ARGV[i + 1], 'probabilities', ARGV[i + 2])
end
redis.call('HSET', KEYS[1], 'impressions', string.format('%.0f', position))
"""
)

GET: Final = _RECOGNISE + "return redis.call('HGET', KEYS[2], ARGV[2])"

# Read together, so that a document that moves to a later position is not missed in between.
CHANGES: Final = (
    _RECOGNISE
    + """
local after, limit = ARGV[2], ARGV[3]
local events = redis.call('XRANGE', KEYS[2], '(' .. after .. '-0', '+', 'COUNT', limit)
local order = redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
local documents = {}
for i = 1, #order, 2 do
    documents[#documents + 1] = {order[i + 1], order[i], redis.call('HGET', KEYS[3], order[i])}
end
return {events, documents}
"""
)
