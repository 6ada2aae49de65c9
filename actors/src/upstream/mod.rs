//! Upstreams: other MCP servers, one actor each.
