//! Connections to one server, to the one that Sentinels name, and to a Cluster.

use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisError, RedisFuture, RedisResult, ServerErrorKind,
    TlsCertificates, TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};

use crate::config::{Redis, RedisKind, RedisTls, Target};

const DEFAULT_PORT: u16 = 6379;

/// It goes on as long as somebody has a copy.
#[derive(Clone)]
pub enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// One over which it has answered.
    pub async fn open(redis: &Redis) -> RedisResult<Connection> {
        let mut connection = match &redis.kind {
            RedisKind::Single => Connection::One(
                one(redis)?.get_multiplexed_async_connection_with_config(&options(redis)).await?,
            ),
            RedisKind::Sentinel(master) => {
                let mut client = sentinels(redis, master)?;
                Connection::One(client.get_async_connection_with_config(&options(redis)).await?)
            }
            RedisKind::Cluster => Connection::Cluster(cluster(redis)?.get_async_connection().await?),
        };
        if !connection.is_cluster() {
            redis::cmd("PING").exec_async(&mut connection).await?;
        }
        Ok(connection)
    }

    pub fn is_cluster(&self) -> bool {
        matches!(self, Connection::Cluster(_))
    }

    /// Whether it is no connection any more. A Cluster's finds other ways by itself.
    pub fn has_ended(&self, error: &RedisError) -> bool {
        match self {
            Connection::One(_) => error.is_io_error() || error.is_unrecoverable_error(),
            Connection::Cluster(_) => false,
        }
    }

    /// Whether nothing is to be had over it now: another server is the master, or none.
    pub fn is_useless(&self, error: &RedisError) -> bool {
        use ServerErrorKind::{BusyLoading, MasterDown, ReadOnly};
        match self {
            Connection::One(_) => {
                matches!(error.kind(), ErrorKind::Server(ReadOnly | MasterDown | BusyLoading))
            }
            Connection::Cluster(_) => error.kind() == ErrorKind::ClusterConnectionNotFound,
        }
    }
}

/// Who asks has a limit of their own.
fn options(redis: &Redis) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(redis.connect_timeout))
        .set_response_timeout(None)
}

fn one(redis: &Redis) -> RedisResult<Client> {
    let endpoint = redis.endpoints.first();
    let info = info(redis, endpoint.ok_or((ErrorKind::InvalidClientConfig, "there is no endpoint"))?)?;
    match &redis.tls {
        Some(tls) => Client::build_with_tls(info, tls.into()),
        None => Client::open(info),
    }
}

fn sentinels(redis: &Redis, master: &str) -> RedisResult<SentinelClient> {
    let addresses = redis.endpoints.iter().map(|endpoint| address(redis, endpoint));
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
        .set_client_to_redis_db(redis.database.into());
    if let Some(tls) = &redis.tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(tls.into())
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_certificates(tls.into());
    }
    if let Some(username) = &redis.login.username {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = &redis.login.password {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(username) = &redis.sentinel_login.username {
        builder = builder.set_client_to_sentinel_username(username);
    }
    if let Some(password) = &redis.sentinel_login.password {
        builder = builder.set_client_to_sentinel_password(password);
    }
    builder.build()
}

fn cluster(redis: &Redis) -> RedisResult<ClusterClient> {
    let nodes = redis.endpoints.iter().map(|endpoint| info(redis, endpoint));
    let mut builder = ClusterClient::builder(nodes.collect::<RedisResult<Vec<_>>>()?)
        .connection_timeout(redis.connect_timeout)
        .response_timeout(redis.connect_timeout)
        .retries(2);
    if let Some(tls) = &redis.tls {
        builder = builder.tls(TlsMode::Secure).certs(tls.into());
    }
    builder.build()
}

fn info(redis: &Redis, endpoint: &Target) -> RedisResult<ConnectionInfo> {
    let mut settings = RedisConnectionInfo::default().set_db(redis.database.into());
    if let Some(username) = &redis.login.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &redis.login.password {
        settings = settings.set_password(password);
    }
    Ok(address(redis, endpoint).into_connection_info()?.set_redis_settings(settings))
}

fn address(redis: &Redis, endpoint: &Target) -> ConnectionAddr {
    let (host, port) = match endpoint {
        Target::Unix(path) => return ConnectionAddr::Unix(path.clone()),
        Target::Address(address) => (address.ip().to_string(), address.port()),
        Target::Name(name, port) => (name.clone(), *port),
        // The config has none of these.
        Target::Service(name) => (name.clone(), DEFAULT_PORT),
    };
    match redis.tls {
        Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        None => ConnectionAddr::Tcp(host, port),
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Connection::One(one) => one.req_packed_command(command),
            Connection::Cluster(cluster) => cluster.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Connection::One(one) => one.req_packed_commands(pipeline, offset, count),
            Connection::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Connection::One(one) => one.get_db(),
            Connection::Cluster(cluster) => cluster.get_db(),
        }
    }
}

impl From<&RedisTls> for TlsCertificates {
    fn from(tls: &RedisTls) -> Self {
        let identity = tls.identity.clone();
        let client_tls =
            identity.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        TlsCertificates { client_tls, root_cert: tls.ca.clone() }
    }
}
