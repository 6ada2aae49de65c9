//! Detection over JSON lines: `{"id","text"}` in, `{"id","spans":[{"start","end","type"}]}` out. For measuring.

use std::io::{BufRead, Write};

#[derive(serde::Deserialize)]
struct Line {
    id: String,
    text: String,
}

fn main() -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line: Line = serde_json::from_str(&line?)?;
        let spans: Vec<_> = athena_actors::privacy::detect(&line.text)
            .iter()
            .map(|s| serde_json::json!({"start": s.start, "end": s.end, "type": s.kind}))
            .collect();
        serde_json::to_writer(&mut out, &serde_json::json!({"id": line.id, "spans": spans}))?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
