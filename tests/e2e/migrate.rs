//! A config of another gateway's, run here.

use std::fs;

use wasmgate_tests::{TestGateway, TestUpstream, fill, get, request, run_in};

const ENVOY: &str = r#"
static_resources:
  listeners:
    - name: public
      address: {socket_address: {address: 127.0.0.1, port_value: 0}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: public
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      retry_policy: {retry_on: 5xx, num_retries: 2}
                      request_headers_to_add:
                        - {header: {key: x-from, value: "%REQ(x-user)% at ${100%%}"}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}
                      response_headers_to_add: [{header: {key: x-edge, value: "%RESPONSE_CODE%"}}]
                      routes:
                        - match: {safe_regex: {regex: "/users/([0-9]+)"}}
                          route:
                            cluster: "app|1"
                            regex_rewrite: {pattern: {regex: "^/users/([0-9]+)$"}, substitution: '/user/\1/of/all'}
                        - match: {path_separated_prefix: /moved}
                          redirect: {https_redirect: true, prefix_rewrite: /here, response_code: FOUND}
                        - match: {path: /fixed}
                          direct_response: {status: 200, body: {inline_string: fixed}}
                        - match: {path: /shares}
                          route: {weighted_clusters: {clusters: [{name: "app|1", weight: 9}, {name: spare, weight: 1}]}}
                        - match: {prefix: /old/}
                          route: {cluster: "app|1", prefix_rewrite: /new/}
                        - match: {prefix: /api/}
                          route: {cluster: "app|1", prefix_rewrite: /}
                        - match: {prefix: /}
                          route: {cluster: "app|1"}
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
    - name: "app|1"
      connect_timeout: 1s
      circuit_breakers: {thresholds: [{max_connections: 10}], per_host_thresholds: [{max_connections: 1}]}
      lb_policy: LEAST_REQUEST
      outlier_detection: {}
      load_assignment: &app
        cluster_name: app
        endpoints:
          - lb_endpoints:
              - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: {port}}}}
    - name: spare
      lb_policy: RING_HASH
      load_assignment: *app
"#;

#[test]
fn a_static_config_of_envoy_serves() {
    let upstream = TestUpstream::echo();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("envoy.yaml"), fill(ENVOY, &[("port", &upstream.address().port())]))
        .unwrap();
    let output = run_in(folder.path(), &["migrate", "envoy", "envoy.yaml"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    let note = "not carried over: static_resources.clusters[0].circuit_breakers.per_host_thresholds: ";
    assert!(output.err.lines().any(|line| line.starts_with(note)), "{}", output.err);
    assert!(output.err.lines().all(|line| output.out.contains(&format!("# {line}\n"))), "{output:?}");

    let gateway = TestGateway::start(&format!("{}\n[plugins]\ndirectory = \"{{plugins}}\"\n", output.out));
    for (path, target) in [
        ("/x?y=1", "/x?y=1"),
        ("/api/x", "/x"),
        ("/old/a/b?c", "/new/a/b?c"),
        ("/users/7", "/user/7/of/all"),
        ("/shares", "/shares"),
    ] {
        let answer = request(gateway.addr(), "GET", path, "X-User: me\r\n");
        assert_eq!((answer.status, answer.header("x-target")), (200, Some(target)), "{path}");
        assert_eq!(answer.header("x-edge"), Some("200"), "{path}");
    }
    for request in upstream.requests() {
        assert_eq!(request.header("x-from"), Some("me at ${100%}"));
    }

    let moved = get(gateway.addr(), "/moved/x/y");
    assert_eq!((moved.status, moved.header("location")), (302, Some("https://a.test/here/x/y")));
    let fixed = get(gateway.addr(), "/fixed");
    assert_eq!((fixed.text().as_str(), fixed.header("x-edge")), ("fixed", Some("200")));
    assert_eq!(get(gateway.addr(), "/movedx").header("x-target"), Some("/movedx"));
}

#[test]
fn what_is_no_config_is_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.yaml"), "a: [").unwrap();
    fs::write(folder.path().join("empty.yaml"), "static_resources: {}").unwrap();
    for file in ["bad.yaml", "empty.yaml", "none.yaml"] {
        let output = run_in(folder.path(), &["migrate", "envoy", file]);
        assert_eq!((output.code, output.out.as_str()), (Some(1), ""), "{output:?}");
        assert!(output.err.contains(file), "{output:?}");
    }
}
