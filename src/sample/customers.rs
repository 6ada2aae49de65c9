//! A small customer database.

use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::schemars::{self, JsonSchema};
use rmcp::{ErrorData, ServerHandler, tool, tool_handler, tool_router};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone)]
pub(super) struct Customers {
    all: Arc<Mutex<Vec<Customer>>>,
}

#[derive(Clone, Serialize, JsonSchema)]
struct Customer {
    /// Its number.
    id: String,
    /// Its name.
    name: String,
    /// Where to write to.
    email: String,
    /// What was noted, oldest first.
    notes: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct Found {
    /// The customers that match.
    customers: Vec<Customer>,
}

#[derive(Deserialize, JsonSchema)]
struct Lookup {
    /// Part of a name or an address; every customer where it is empty.
    query: String,
}

#[derive(Deserialize, JsonSchema)]
struct Update {
    /// The customer's number, as `find_customers` shows it.
    id: String,
    /// A note to add.
    #[serde(default)]
    note: Option<String>,
    /// A new address.
    #[serde(default)]
    email: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct Message {
    /// The address to write to.
    to: String,
    /// What to say.
    text: String,
}

#[derive(Serialize, JsonSchema)]
struct Sent {
    /// The address it went to, as this server received it.
    to: String,
    /// Whether the address is a customer's.
    known: bool,
    /// The length of the text.
    bytes: usize,
}

#[tool_router]
impl Customers {
    pub(super) fn new() -> Self {
        let customer = |id: &str, name: &str, email: &str| Customer {
            id: id.into(),
            name: name.into(),
            email: email.into(),
            notes: Vec::new(),
        };
        let all = vec![
            customer("C-1001", "Priya Raman", "priya.raman@example.com"),
            customer("C-1002", "Oskar Nowak", "oskar.nowak@example.com"),
            customer("C-1003", "Fen Okafor", "fen.okafor@example.org"),
            customer("C-1004", "Lena Sørensen", "lena.sorensen@example.net"),
        ];
        Self { all: Arc::new(Mutex::new(all)) }
    }

    /// Find customers by a part of their name or address.
    #[tool(annotations(read_only_hint = true, open_world_hint = false))]
    fn find_customers(&self, Parameters(Lookup { query }): Parameters<Lookup>) -> Json<Found> {
        let wanted = query.to_lowercase();
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let matches = |customer: &&Customer| {
            customer.name.to_lowercase().contains(&wanted) || customer.email.to_lowercase().contains(&wanted)
        };
        Json(Found { customers: all.iter().filter(matches).cloned().collect() })
    }

    /// Change a customer: add a note, or set a new address.
    #[tool(annotations(read_only_hint = false, destructive_hint = false, open_world_hint = false))]
    fn update_customer(&self, Parameters(update): Parameters<Update>) -> Result<Json<Customer>, ErrorData> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let customer = all
            .iter_mut()
            .find(|customer| customer.id == update.id)
            .ok_or_else(|| ErrorData::invalid_params(format!("there is no customer {}", update.id), None))?;
        customer.notes.extend(update.note);
        if let Some(email) = update.email {
            customer.email = email;
        }
        Ok(Json(customer.clone()))
    }

    /// Send a message to an address. Says whether the address is a customer's, so that one can see what arrived.
    #[tool(annotations(read_only_hint = false, destructive_hint = false, open_world_hint = false))]
    fn send_message(&self, Parameters(Message { to, text }): Parameters<Message>) -> Json<Sent> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().any(|customer| customer.email == to);
        Json(Sent { known, to, bytes: text.len() })
    }
}

#[tool_handler(name = "athena-sample-customers", instructions = "A sample customer database.")]
impl ServerHandler for Customers {}
