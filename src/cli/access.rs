//! How commands reach an installation: through the server that runs on its data directory, or, when there is none,
//! through an engine of their own on the same files. Either way a change takes the same path through the same actors.

use crate::actors::reservation::Caller;
use crate::app::data_dir::{Claim, DataDir, Holder};
use crate::app::{Engine, authenticator};
use crate::client::{Answer, Bearer, HttpClient};
use crate::config::Config;
use crate::domain::dead_letter::{DeadLetter, Matter};
use crate::domain::ids::TenantId;
use crate::domain::import::{Import, ImportCounts};
use crate::domain::tenant::Tenant;
use crate::domain::time::Timestamp;
use crate::http::api::new_tenant;
use crate::http::{Claims, Role};
use crate::ports::clock::{Clock as _, SharedClock, SystemClock};
use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;

/// How long a server that is just starting may take to say where it listens.
const STARTING: Duration = Duration::from_secs(30);

/// How long the server may take for an import.
const PATIENCE: Duration = Duration::from_secs(300);

/// A way into an installation.
pub enum Access {
    /// A server runs on the data directory.
    Running(Server),
    /// Nobody does.
    Alone(Box<Engine>, DataDir),
}

/// A running server, with a token that may do everything.
pub struct Server {
    client: HttpClient,
    token: Bearer,
}

impl Access {
    /// Finds the server or starts an engine. `command` is what others are told who find the directory taken.
    pub async fn open(config: &Config, command: &str) -> anyhow::Result<Self> {
        let clock: SharedClock = Arc::new(SystemClock);
        let path = config.data_dir.clone();
        let claim = || DataDir::claim(&path, command);
        let find = async {
            loop {
                match claim()? {
                    Claim::Ours(dir) => return Ok::<_, anyhow::Error>(Claim::Ours(dir)),
                    Claim::Held(holder) if holder.listening.is_some() => return Ok(Claim::Held(holder)),
                    // It is starting, or it is another command that will be done in a moment.
                    Claim::Held(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        };
        match tokio::time::timeout(STARTING, find).await {
            Ok(Ok(Claim::Ours(dir))) => {
                let engine = Engine::start(config, &dir, clock).await?;
                engine.ready().await?;
                Ok(Self::Alone(Box::new(engine), dir))
            }
            Ok(Ok(Claim::Held(Holder { listening: Some(address), .. }))) => {
                Ok(Self::Running(Server::at(config, &address, &clock)?))
            }
            Ok(Err(error)) => Err(error),
            Ok(Ok(Claim::Held(_))) | Err(_) => {
                DataDir::claim_alone(&config.data_dir, command).map(|_| ()).and_then(|()| bail!("try again"))
            }
        }
    }

    /// Creates a tenant.
    pub async fn create_tenant(&self, name: &str, trade: &str) -> anyhow::Result<TenantId> {
        match self {
            Self::Running(server) => {
                let body = serde_json::json!({ "nombre": name, "rubro": trade });
                let answer = server.request(Method::POST, "/api/v1/admin/tiendas", Some(&body)).await?;
                Ok(answer.json::<TenantRow>()?.id)
            }
            Self::Alone(engine, _) => {
                let new = new_tenant(name, trade, SystemClock.now())
                    .map_err(|(field, rule)| anyhow!("{field}: {rule}"))?;
                Ok(engine.shards.create_tenant(new, command_line()).await??.id)
            }
        }
    }

    /// Every tenant, oldest first.
    pub async fn tenants(&self) -> anyhow::Result<Vec<TenantRow>> {
        match self {
            Self::Running(server) => {
                Ok(server.request(Method::GET, "/api/v1/admin/tiendas", None).await?.json()?)
            }
            Self::Alone(engine, _) => {
                Ok(engine.shards.tenants().await?.into_iter().map(TenantRow::from).collect())
            }
        }
    }

    /// Takes in a catalogue.
    pub async fn import(&self, tenant: TenantId, import: Import) -> anyhow::Result<ImportCounts> {
        match self {
            Self::Running(server) => {
                let path = format!("/api/v1/admin/tiendas/{tenant}/catalogo");
                let body = serde_json::to_value(&import)?;
                Ok(server.request(Method::POST, &path, Some(&body)).await?.json()?)
            }
            Self::Alone(engine, _) => Ok(engine.shards.import(tenant, import, command_line()).await??),
        }
    }

    /// Rebuilds hot stock. Says how many units the tenant has, or nothing when no server has any in memory.
    pub async fn warm_up(&self, tenant: TenantId) -> anyhow::Result<Option<u64>> {
        #[derive(Deserialize)]
        struct Warmed {
            productos_cacheados: u64,
        }
        let Self::Running(server) = self else { return Ok(None) };
        let path = format!("/api/v1/admin/tiendas/{tenant}/cache/warmup");
        let answer = server.request(Method::POST, &path, None).await?;
        Ok(Some(answer.json::<Warmed>()?.productos_cacheados))
    }

    /// The oldest dead letters.
    pub async fn dead_letters(&self, most: usize) -> anyhow::Result<Vec<DeadLetter>> {
        match self {
            Self::Running(server) => {
                let path = format!("/api/v1/admin/descartados?limit={most}");
                let listed: LetterRows = server.request(Method::GET, &path, None).await?.json()?;
                Ok(listed.descartados.into_iter().map(DeadLetter::from).collect())
            }
            Self::Alone(engine, _) => Ok(engine.dead_letters.list(most).await?),
        }
    }

    /// Tries these again; says how many of them there still were.
    pub async fn replay_dead_letters(&self, ids: &[String]) -> anyhow::Result<usize> {
        #[derive(Deserialize)]
        struct Replayed {
            reprocesados: usize,
        }
        match self {
            Self::Running(server) => {
                let body = serde_json::json!({ "ids": ids, "maximo": ids.len() });
                let path = "/api/v1/admin/descartados/reprocesar";
                Ok(server.request(Method::POST, path, Some(&body)).await?.json::<Replayed>()?.reprocesados)
            }
            Self::Alone(engine, _) => Ok(engine.dead_letters.replay(ids).await?),
        }
    }

    /// Throws these away; says how many of them there still were.
    pub async fn discard_dead_letters(&self, ids: &[String]) -> anyhow::Result<usize> {
        #[derive(Deserialize)]
        struct Discarded {
            borrados: usize,
        }
        match self {
            Self::Running(server) => {
                let body = serde_json::json!({ "ids": ids, "maximo": ids.len() });
                let path = "/api/v1/admin/descartados/borrar";
                Ok(server.request(Method::POST, path, Some(&body)).await?.json::<Discarded>()?.borrados)
            }
            Self::Alone(engine, _) => Ok(engine.dead_letters.discard(ids).await?),
        }
    }

    /// Ends an engine of our own in order: what was accepted is in the ledger then.
    pub async fn close(self, config: &Config) -> anyhow::Result<()> {
        if let Self::Alone(engine, dir) = self {
            let report = engine.stop(Duration::from_secs(config.server.shutdown_timeout_secs)).await;
            if !report.is_clean() {
                tracing::warn!("the ledger is not up to date yet; the next start goes on with it");
            }
            drop(dir);
        }
        Ok(())
    }
}

impl Server {
    /// The server that listens at an address, with a token minted from the data directory's key.
    pub fn at(config: &Config, address: &str, clock: &SharedClock) -> anyhow::Result<Self> {
        let now = clock.now().seconds();
        let claims = Claims {
            sub: "blend".into(),
            iat: now,
            exp: now + i64::try_from(PATIENCE.as_secs()).unwrap_or(i64::MAX) * 2,
            tienda_id: None,
            rol: Role::SuperAdmin,
        };
        let token = authenticator(config, &config.data_dir, clock)?.mint(&claims).context("token")?;
        Ok(Self {
            client: HttpClient::new(&format!("http://{}", reachable(address)))?.with_timeout(PATIENCE),
            token: Bearer::new(&token)?,
        })
    }

    /// Asks; anything but success is an error in the server's own words.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> anyhow::Result<Answer> {
        let body = body.map(serde_json::to_vec).transpose()?.map_or_else(Bytes::new, Bytes::from);
        let mut answer =
            self.client.request(method.clone(), path, Some(&self.token), &[], body.clone()).await?;
        let began = tokio::time::Instant::now();
        // Reading changes nothing, so it is asked again while the server gets back what it lost.
        while method == Method::GET
            && answer.status == StatusCode::SERVICE_UNAVAILABLE
            && began.elapsed() < STARTING
        {
            tokio::time::sleep(Duration::from_millis(200)).await;
            answer = self.client.request(method.clone(), path, Some(&self.token), &[], body.clone()).await?;
        }
        if answer.status.is_success() {
            return Ok(answer);
        }
        #[derive(Deserialize)]
        struct Refusal {
            error: Problem,
        }
        #[derive(Deserialize)]
        struct Problem {
            message: String,
            code: String,
            details: Option<serde_json::Value>,
            #[serde(default)]
            validation_errors: Vec<Wrong>,
        }
        #[derive(Deserialize)]
        struct Wrong {
            field: String,
            message: String,
        }
        match answer.json::<Refusal>() {
            Ok(Refusal { error: Problem { message, code, details, validation_errors } }) => {
                let details = details.map(|details| format!(" {details}")).unwrap_or_default();
                let wrong = |Wrong { field, message }: &Wrong| format!("; {field}: {message}");
                let wrong: String = validation_errors.iter().map(wrong).collect();
                bail!("the server refused: {message} ({code}){details}{wrong}")
            }
            Err(_) => bail!("the server answered {}", answer.status),
        }
    }
}

/// Where a client reaches a server that listens everywhere.
pub fn reachable(address: &str) -> String {
    match address.strip_prefix("0.0.0.0:").or_else(|| address.strip_prefix("[::]:")) {
        Some(port) => format!("127.0.0.1:{port}"),
        None => address.to_owned(),
    }
}

/// Who the ledger names for changes from the command line.
fn command_line() -> Caller {
    Caller { user: "blend".into(), request_id: format!("cli-{}", std::process::id()).into(), trace: None }
}

/// A tenant as commands list it.
#[derive(Deserialize)]
pub struct TenantRow {
    /// Its id.
    pub id: TenantId,
    /// Its name.
    pub nombre: String,
    /// Whether it may sell.
    pub is_active: bool,
}

impl From<Tenant> for TenantRow {
    fn from(tenant: Tenant) -> Self {
        Self { id: tenant.id, nombre: tenant.name.to_string(), is_active: tenant.active }
    }
}

#[derive(Deserialize)]
struct LetterRows {
    descartados: Vec<LetterRow>,
}

#[derive(Deserialize)]
struct LetterRow {
    id: String,
    asunto: String,
    consumidor: String,
    tipo: String,
    tienda_id: String,
    intentos: u64,
    primera_falla: Timestamp,
    ultima_falla: Timestamp,
    causa: String,
    evento: Option<Box<RawValue>>,
    texto: Option<String>,
    respuesta: String,
}

impl From<LetterRow> for DeadLetter {
    fn from(row: LetterRow) -> Self {
        let event = row.evento.map(|event| event.get().as_bytes().to_vec());
        Self {
            // A matter that this build does not know is one that it keeps.
            matter: Matter::parse(&row.asunto).unwrap_or(Matter::Event),
            id: row.id,
            group: row.consumidor,
            kind: row.tipo,
            tenant: row.tienda_id,
            attempts: row.intentos,
            first_at: row.primera_falla,
            last_at: row.ultima_falla,
            cause: row.causa,
            payload: event.or_else(|| row.texto.map(String::into_bytes)).unwrap_or_default(),
            response: row.respuesta,
        }
    }
}
