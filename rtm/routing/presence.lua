-- What changes the presence of a license's agents; the rules are those of rtm/routing/presence.py. A status that changes
-- is told in the same step, so that pushes come in the order of the changes, each once, whoever dies.
--
-- KEYS  1  hash: agent -> what is known of it, as JSON; see rtm/routing/presence_redis.py
--       2  sorted set: process that was given up -> when (ms)
--       3  set: agents that the process has written of
-- ARGV  1  JSON: what is asked, with `operation` and `process`, and how to publish a push: `publish`, the command,
--          `channel`, and what comes before and after the push's payload, `head` and `tail`
--       count:   `agent`, `default`, `bot`, `connections`, `away`, `oldest`, `oldest_at`, `revision`, `joining`,
--                `restore`, `tell`, `limit`, `refuse`, and what the process remembers as chosen, `chosen`, `choice`
--       choose:  `agent`, `default`, `bot`, `status`
--       bury:    `count`, of how many agents at a time
-- Returns JSON: for count and choose `before` and `after`, `told`, `chosen` with its number, `choice`, and `evicted`,
-- ids of connections that are too many; or `refused`; or `forgotten`, if what the process wrote before is gone.
-- For bury how many agents there were.

local states, given_up, written = KEYS[1], KEYS[2], KEYS[3]
local ask = cjson.decode(ARGV[1])
local KEPT_MS = 3600 * 1000

local function connections(state)
    local all, away = 0, 0
    for _, of in pairs(state.processes) do
        all = all + of.connections
        away = away + of.away
    end
    return all, away
end

local function status(state)
    if state.bot then
        return state.chosen or state.default
    end
    local all, away = connections(state)
    if all == 0 then
        return state.chosen or 'offline'
    end
    local present = state.chosen or state.default
    if present == 'accepting_chats' and away == all and not state.defies_away then
        return 'not_accepting_chats'
    end
    return present
end

local function begin_or_end_session(state, restore)
    local all = connections(state)
    if all > 0 and not state.in_session and not state.bot then
        state.in_session = true
        state.chosen = restore and (state.chosen or state.last) or nil
    elseif all == 0 and state.in_session then
        state.in_session = nil
        state.last, state.chosen = state.chosen, nil
    end
end

local function tell(agent, status)
    local payload = cjson.encode({agent_id = agent, status = status})
    redis.call(ask.publish, ask.channel, ask.head .. payload .. ask.tail)
end

local function load(agent)
    local document = redis.call('HGET', states, agent)
    return document and cjson.decode(document)
end

local function save(agent, state)
    redis.call('HSET', states, agent, cjson.encode(state))
end

-- The connections past the limit: the oldest that the processes have named, but not the one that is joining. They count
-- no more, so that none is asked for twice; that their process has another oldest it says when they are gone.
local function evict(state)
    local evicted = {}
    local excess = connections(state) - ask.limit
    while ask.limit > 0 and excess > 0 do
        local oldest
        for _, of in pairs(state.processes) do
            if of.oldest and of.oldest ~= ask.joining and (not oldest or of.oldest_at < oldest.oldest_at) then
                oldest = of
            end
        end
        if not oldest then
            break
        end
        table.insert(evicted, oldest.oldest)
        oldest.oldest = nil
        oldest.connections = oldest.connections - 1
        oldest.away = math.min(oldest.away, oldest.connections)
        excess = excess - 1
    end
    return evicted
end

local function count()
    if redis.call('ZSCORE', given_up, ask.process) then
        return {forgotten = true}
    end
    local state = load(ask.agent)
    local known = state and true or false
    if not known and ask.tell == 'changed' and not ask.joining then
        return {forgotten = true}
    end
    state = state or {processes = {}}
    state.default, state.bot = ask.default, ask.bot
    if ask.chosen and ask.choice > (state.choice or 0) then
        state.chosen, state.choice = ask.chosen, ask.choice
    end
    local before = status(state)
    local evicted = {}
    local of = state.processes[ask.process]
    -- Calls of one process may overtake each other on their way.
    if not of or of.revision < ask.revision then
        local others = connections(state) - (of and of.connections or 0)
        if ask.refuse and ask.joining and ask.limit > 0 and others + ask.connections > ask.limit then
            return {refused = true}
        end
        state.processes[ask.process] = {
            connections = ask.connections, away = ask.away, revision = ask.revision,
            oldest = ask.oldest, oldest_at = ask.oldest_at,
        }
        if ask.tell ~= 'known' then
            state.defies_away = nil
        end
        redis.call('SADD', written, ask.agent)
        begin_or_end_session(state, ask.restore)
        if not ask.refuse then
            evicted = evict(state)
        end
        save(ask.agent, state)
    end
    local after = status(state)
    local told = ask.tell == 'always' or (before ~= after and (known or ask.tell == 'changed'))
    if told then
        tell(ask.agent, after)
    end
    return {
        before = before, after = after, told = told, evicted = evicted,
        chosen = state.chosen, choice = state.choice or 0,
    }
end

local function choose()
    local state = load(ask.agent) or {processes = {}}
    state.default, state.bot = ask.default, ask.bot
    local before = status(state)
    state.chosen, state.choice = ask.status, (state.choice or 0) + 1
    state.defies_away = true
    save(ask.agent, state)
    local after = status(state)
    if before ~= after then
        tell(ask.agent, after)
    end
    return {before = before, after = after, told = before ~= after, chosen = state.chosen, choice = state.choice}
end

local function bury()
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    redis.call('ZREMRANGEBYSCORE', given_up, '-inf', now - KEPT_MS)
    redis.call('ZADD', given_up, now, ask.process)
    redis.call('PEXPIRE', given_up, KEPT_MS)
    local agents = redis.call('SPOP', written, ask.count)
    for _, agent in ipairs(agents) do
        local state = load(agent)
        if state and state.processes[ask.process] then
            local before = status(state)
            state.processes[ask.process] = nil
            begin_or_end_session(state)
            save(agent, state)
            local after = status(state)
            if before ~= after then
                tell(agent, after)
            end
        end
    end
    return #agents
end

local operations = {count = count, choose = choose, bury = bury}
return cjson.encode(operations[ask.operation]())
