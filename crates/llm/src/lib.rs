//! Chat bodies, server-sent events, token counts, provider clients.
