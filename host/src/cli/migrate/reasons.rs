//! Why a key of Envoy's is not carried over, and what to use instead.

/// `key` is in snake case.
pub fn of(key: &str) -> &'static str {
    match key {
        "access_log" | "access_log_path" => "access logs; write a table [access_log]",
        "additional_addresses" => "further addresses; write a [[listener]] for each",
        "active_request_bias" => "how much requests under way count; here each is one",
        "additional_request_chance" | "initial_requests" => "further requests at once; see `hedge` of retry",
        "aggression" | "min_weight_percent" => {
            "how weights grow; here they do evenly, from a tenth of themselves on"
        }
        "allow_requests_without_proxy_protocol" => {
            "headers that may be missing; write the networks of those who send them in `proxy_protocol`"
        }
        "always_eject_one_host" => {
            "an endpoint that is taken out above the percentage; see `max_ejected` of outliers"
        }
        "append" | "append_action" => "a way to add headers that is not known",
        "attributes" => "attributes of the cookie; see `secure` and `same_site` of `sticky` of balance",
        "bind_to_port" | "use_original_dst" => "connections that were meant for other addresses",
        "capability_restriction_config" => {
            "what the plugin may call; see the `limits` and `upstreams` of plugins"
        }
        "case_sensitive" => "paths match as they are written; a regular expression can begin with `(?i)`",
        "cluster_header" => "a cluster that the request names; a route has a fixed upstream",
        "cipher_suites" | "ecdh_curves" | "signature_algorithms" => "what the TLS library chooses by itself",
        "codec_type" => "HTTP/1.1 and HTTP/2 are spoken; `http2 = false` of a listener leaves HTTP/1.1",
        "common_http_protocol_options"
        | "stream_idle_timeout"
        | "request_timeout"
        | "max_stream_duration" => "limits on what clients may do; see [limits]",
        "cluster_type" | "type" => {
            "a cluster whose endpoints come from elsewhere; those in the file are read"
        }
        "consecutive_local_origin_failure"
        | "enforcing_consecutive_local_origin_failure"
        | "enforcing_local_origin_success_rate"
        | "enforcing_failure_percentage_local_origin"
        | "split_external_local_origin_errors" => {
            "failures of the connection apart from those of answers; here they count as one"
        }
        "consistent_hashing_lb_config"
        | "least_request_lb_config"
        | "maglev_lb_config"
        | "ring_hash_lb_config"
        | "round_robin_lb_config" => "it belongs to another `lb_policy`",
        "cors" => "cross-origin answers, which wasmgate leaves to plugins",
        "default_filter_chain" => "a further filter chain; a listener of wasmgate has one",
        "disable_active_health_check" => "an endpoint that is not checked; all of an upstream are",
        "dns_lookup_family" | "dns_refresh_rate" => {
            "how often and for which addresses names are asked for; see `family`, `min_ttl` and `max_ttl` of [dns]"
        }
        "dns_resolvers" | "dns_resolution_config" | "typed_dns_resolver_config" => {
            "which name servers are asked; see `servers` of [dns]"
        }
        "dynamic_resources" | "config_discovery" | "rds" | "scoped_routes" | "vhds"
        | "eds_cluster_config" => "what a control plane sends; only the static config is read",
        "filter_chain_match" => "connections are not told apart; the chain takes them all",
        "generate_request_id" => "ids of requests; the plugin request-id makes them",
        "filename" | "inline_bytes" | "environment_variable" => {
            "a text from elsewhere; `${file:PATH}` stands for one"
        }
        "hash_balance_factor" => "a bound that is not between 100 and 10000 percent",
        "hash_function" | "minimum_ring_size" | "maximum_ring_size" | "table_size" => {
            "how keys are laid out, which the gateway decides"
        }
        "hash_policy" => "what is hashed; no cluster of the route is balanced by hash",
        "grpc" | "runtime_fraction" | "tls_context" | "dynamic_metadata" | "filter_state"
        | "invert_match" => "routes cannot ask for this",
        "health_status" => "a state that does not change; `weight = 0` keeps requests away from an endpoint",
        "healthy_edge_interval"
        | "unhealthy_edge_interval"
        | "initial_jitter"
        | "no_traffic_interval"
        | "no_traffic_healthy_interval" => {
            "another interval of checks; see `interval` and `unhealthy_interval` of health"
        }
        "host_env_keys" => {
            "names of variables; write env = { NAME = \"${env:NAME}\" } for those that are set"
        }
        "host_rewrite_header" | "host_rewrite_path_regex" => {
            "a Host made from the request; the `host` of an upstream is fixed"
        }
        "idle_timeout" => "how long a request may be silent; see timeouts.read of upstreams",
        "http2_protocol_options" => "how HTTP/2 is spoken; see `streams` of [limits]",
        "http3_protocol_options" => "HTTP/3; requests come and go over HTTP/1.1 and HTTP/2",
        "auto_config" | "use_downstream_protocol_config" => {
            "a protocol that is chosen; in the clear it is the `protocol` of the upstream"
        }
        "lb_policy" | "load_balancing_policy" => "a way to choose endpoints that `balance` does not have",
        "lb_subset_config" | "metadata_match" => "endpoints of one kind; write an upstream for them",
        "load_balancing_weight" => "a weight that is none, or not between 0 and 65535",
        "locality_weighted_lb_config" | "zone_aware_lb_config" => {
            "shares of localities; see `weight`, `zone` and `priority` of endpoints"
        }
        "local_reply_config" => "the form of error answers, which are the gateway's own",
        "max_connections" | "max_requests" | "max_pending_requests" | "max_retries" => {
            "a limit of nothing, or of more than 32 bits"
        }
        "max_ejection_time_jitter" => "chance in how long an endpoint is out",
        "min_retry_concurrency" => {
            "tries that may always be under way; see `per_second` of `budget` of retry"
        }
        "overload_manager" => "what happens under load",
        "path" => "a path that does not begin with `/`, or is too long",
        "per_host_thresholds" => "limits of one endpoint; those of upstreams are for all of theirs",
        "per_request_buffer_limit_bytes" => {
            "how much of a body is kept to be sent again; see `body` of retry"
        }
        "per_try_idle_timeout" => "how long one attempt may be silent; see `per_try` of retry",
        "pipe" => "a socket that is a file; the admin listener is at an IP address and port",
        "port_redirect" => "a port for the host that the request names, which may come with its own",
        "match_subject_alt_names"
        | "match_typed_subject_alt_names"
        | "verify_certificate_hash"
        | "verify_certificate_spki" => {
            "whom of the authority's clients it lets in: now it is all of them, unless a plugin looks"
        }
        "forward_client_cert_details" | "set_current_client_cert_details" => {
            "what upstreams learn of clients' certificates; `header` of [listener.tls] clients tells them"
        }
        "prefix_rewrite" => "a path that no rewrite of a route can be",
        "rate_limited_retry_back_off" => "waiting as long as an answer says; see `retry_after` of retry",
        "rate_limits" => "rate limits; the plugin rate-limit has some",
        "regex_rewrite" => "a rewrite whose expression is not that of the route's match",
        "region" | "sub_zone" => "where an endpoint is; only zones are told apart",
        "reload_config" => "when a failed plugin starts again; see its `breaker`",
        "request_headers_timeout" => "how long a header may take; see limits.header_time",
        "require_tls" | "transport_socket" | "transport_socket_matches" => {
            "TLS that is asked for elsewhere; write a table [listener.tls]"
        }
        "respect_dns_ttl" => "names are asked for again when their records expire",
        "retriable_headers" | "retriable_status_codes" => {
            "what `retry_on` does not name, or statuses that are not between 400 and 599"
        }
        "retriable_request_headers" | "retry_options_predicates" | "retry_priority" => {
            "which requests are tried again, and where; see `retry` of upstreams"
        }
        "reuse_connection" => "checks on one connection; here each has its own",
        "send" | "receive" => {
            "what is sent and awaited in a check; one of HTTP can ask for a `body`, one of TCP connects only"
        }
        "runtime_key" | "layered_runtime" => "values that change at runtime",
        "server_name" | "server_header_transformation" => "the header Server; the plugin headers can set it",
        "stats_config" | "stats_flush_interval" | "stats_sinks" => {
            "where numbers go; they are read at /metrics of [admin]"
        }
        "timeout" => "a duration that cannot be read",
        "successful_active_health_check_uneject_host" => {
            "a check that does not let an endpoint back in; here one that succeeds does"
        }
        "tracing" => "traces; write a table [traces]",
        "typed_per_filter_config" | "per_filter_config" => {
            "a filter's config for a part of the routes; write it as the `config` of the plugin in these routes"
        }
        "upgrade_configs" => "protocols that requests go on in; see `upgrades` of routes",
        "use_hostname_for_hashing" => "what an endpoint is known by: its address and its name",
        "xff_num_trusted_hops" | "use_remote_address" | "original_ip_detection_extensions" => {
            "which proxies in front are trusted; see [forwarded]"
        }
        _ => "wasmgate has nothing like it",
    }
}
