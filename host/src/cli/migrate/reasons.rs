//! Why a key of Envoy's is not carried over, and what to use instead.

/// `key` is in snake case.
pub fn of(key: &str) -> &'static str {
    match key {
        "access_log" | "access_log_path" => "access logs; write a table [access_log]",
        "additional_addresses" => "further addresses; write a [[listener]] for each",
        "append" | "append_action" => "a way to add headers that is not known",
        "bind_to_port" | "use_original_dst" => "connections that were meant for other addresses",
        "capability_restriction_config" => {
            "what the plugin may call; see the `limits` and `upstreams` of plugins"
        }
        "case_sensitive" => "paths match as they are written; a regular expression can begin with `(?i)`",
        "cluster_header" => "a cluster that the request names; a route has a fixed upstream",
        "circuit_breakers" => "limits on the use of an upstream, which wasmgate does not have",
        "codec_type" => "clients are answered over HTTP/1.1 only",
        "common_http_protocol_options"
        | "stream_idle_timeout"
        | "request_timeout"
        | "max_stream_duration" => "limits on what clients may do; see [limits]",
        "cluster_type" | "type" => {
            "a cluster whose endpoints come from elsewhere; those in the file are read"
        }
        "cors" => "cross-origin answers, which wasmgate leaves to plugins",
        "default_filter_chain" => "a further filter chain; a listener of wasmgate has one",
        "dns_lookup_family"
        | "dns_refresh_rate"
        | "dns_resolvers"
        | "respect_dns_ttl"
        | "typed_dns_resolver_config" => "names are resolved as the system does it",
        "dynamic_resources" | "config_discovery" | "rds" | "scoped_routes" | "vhds"
        | "eds_cluster_config" => "what a control plane sends; only the static config is read",
        "filter_chain_match" => "connections are not told apart; the chain takes them all",
        "generate_request_id" => "ids of requests; the plugin request-id makes them",
        "hash_policy"
        | "lb_policy"
        | "lb_subset_config"
        | "load_balancing_policy"
        | "ring_hash_lb_config"
        | "maglev_lb_config"
        | "least_request_lb_config"
        | "common_lb_config"
        | "locality"
        | "metadata_match" => "endpoints take turns by their weights; there is no other way to choose",
        "filename" | "inline_bytes" | "environment_variable" => {
            "a text from elsewhere; `${file:PATH}` stands for one"
        }
        "grpc" | "runtime_fraction" | "tls_context" | "dynamic_metadata" | "filter_state"
        | "invert_match" => "routes cannot ask for this",
        "health_checks" | "health_check_config" | "health_status" => {
            "checks of endpoints, which wasmgate does not make"
        }
        "host_env_keys" => {
            "names of variables; write env = { NAME = \"${env:NAME}\" } for those that are set"
        }
        "host_rewrite_header" | "host_rewrite_path_regex" => {
            "a Host made from the request; the `host` of an upstream is fixed"
        }
        "idle_timeout" => "how long a request may be silent; see timeouts.read of upstreams",
        "http2_protocol_options" | "http3_protocol_options" | "auto_config" => {
            "HTTP/2 or HTTP/3; requests come and go over HTTP/1.1"
        }
        "layered_runtime" => "values that change at runtime",
        "listener_filters" => "what is read from a connection before HTTP",
        "load_balancing_weight" => "a weight that is none, or not between 0 and 65535",
        "local_reply_config" => "the form of error answers, which are the gateway's own",
        "outlier_detection" => "endpoints that are taken out when they fail, which wasmgate does not do",
        "overload_manager" => "what happens under load",
        "pipe" => "a socket that is a file; addresses are IP addresses or names, and ports",
        "port_redirect" => "a port for the host that the request names, which may come with its own",
        "prefix_rewrite" => "a path that no rewrite of a route can be",
        "rate_limits" => "rate limits; the plugin rate-limit has some",
        "regex_rewrite" => "a rewrite whose expression is not that of the route's match",
        "reload_config" => "when a failed plugin starts again; see its `breaker`",
        "request_headers_timeout" => "how long a header may take; see limits.header_time",
        "request_mirror_policies" => "copies of requests, which wasmgate does not send",
        "require_tls" | "transport_socket" | "transport_socket_matches" => {
            "TLS, which wasmgate does not speak: this is now plain HTTP"
        }
        "retry_policy" | "hedge_policy" => "requests that are tried again; wasmgate tries once",
        "server_name" | "server_header_transformation" => "the header Server; the plugin headers can set it",
        "stats_config" | "stats_flush_interval" | "stats_sinks" => {
            "where numbers go; they are read at /metrics of [admin]"
        }
        "timeout" => "a duration that cannot be read",
        "tracing" => "traces; write a table [traces]",
        "typed_per_filter_config" | "per_filter_config" => {
            "a filter's config for a part of the routes; write it as the `config` of the plugin in these routes"
        }
        "upgrade_configs" => "upgrades such as WebSocket, which wasmgate does not pass on",
        "xff_num_trusted_hops" | "use_remote_address" | "original_ip_detection_extensions" => {
            "which proxies in front are trusted; see [forwarded]"
        }
        _ => "wasmgate has nothing like it",
    }
}
