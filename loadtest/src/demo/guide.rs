//! What the demo prints when it is ready: addresses, users, and lines that work as they stand.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{DemoInfo, Folder, Ports, Scope};

/// The whole text.
pub(super) fn text(folder: &Folder, ports: &Ports, info: &DemoInfo, scope: Scope, program: &str) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, folder, ports, info, scope, program);
    out
}

fn write(
    out: &mut String,
    folder: &Folder,
    ports: &Ports,
    info: &DemoInfo,
    scope: Scope,
    program: &str,
) -> std::fmt::Result {
    let config = quote(&info.config.display().to_string());
    let ca = quote(&info.ca.display().to_string());
    let program = quote(program);
    match scope {
        Scope::All => {
            writeln!(out, "The demo is ready. Ctrl-C stops it; the same command goes on where it stopped.\n")?
        }
        Scope::WorldOnly => {
            writeln!(
                out,
                "The world is ready, without a gateway. Start one in another terminal:\n\n  {program} run -c {config}\n"
            )?;
        }
    }
    writeln!(out, "  web         {}/   (certificate: signed by {})", info.web, info.ca.display())?;
    writeln!(out, "  redirect    http://localhost:{}/", ports.redirect)?;
    writeln!(out, "  imaps       {}", info.imaps)?;
    writeln!(out, "  imap        {}   (STARTTLS)", info.imap)?;
    writeln!(out, "  pop3s       {}", info.pop3s)?;
    writeln!(out, "  pop3        {}   (STLS)", info.pop3)?;
    writeln!(out, "  submissions {}", info.submissions)?;
    writeln!(out, "  submission  {}   (STARTTLS)", info.submission)?;
    writeln!(out, "  sieve       {}   (ManageSieve, STARTTLS)", info.sieve)?;
    writeln!(out, "  management  {}/metrics", info.management)?;
    writeln!(out, "  folder      {}   (demo.json says all this to programs)\n", folder.path("").display())?;
    writeln!(out, "  address                 mail and fallback   at the IdP: login, password   category")?;
    for tenant in &info.tenants {
        for user in tenant.users.iter().take(2) {
            let (login, password) = (&user.idp_login, &user.idp_password);
            writeln!(
                out,
                "  {:<23} {:<19} {:<29} {}",
                user.address,
                user.password,
                format!("{login}, {password}"),
                user.category
            )?;
        }
    }
    writeln!(out, "  and user001 to user020 of each, with passwords of the same shape")?;
    writeln!(
        out,
        "  (School C has one password for everything: its identity provider judges it for mail, too, by ECP)\n"
    )?;

    let Some((tenant, user)) = info.tenants.first().and_then(|tenant| Some((tenant, tenant.users.first()?))) else {
        return Ok(());
    };
    let (address, password) = (&user.address, &user.password);
    let login = format!("{address}:{password}");
    writeln!(out, "In a browser: {}/ and choose an institution (accept the demo's certificate).", info.web)?;
    writeln!(
        out,
        "{}/settings wants a second factor of those of {} (six digits of your choice).",
        info.web, tenant.id
    )?;
    writeln!(out, "Sign out at {}{}, or at {}/ and there from everything.\n", info.web, info.logout_path, tenant.idp)?;
    writeln!(out, "With programs:")?;
    writeln!(out, "  curl --cacert {ca} -u {login} {}/", info.web)?;
    writeln!(out, "  curl --cacert {ca} -u {login} 'imaps://{}/INBOX;MAILINDEX=1'", info.imaps)?;
    writeln!(out, "  curl --cacert {ca} --ssl-reqd -u {login} 'imap://{}/INBOX;MAILINDEX=1'", info.imap)?;
    writeln!(
        out,
        "  (printf 'a LOGIN {address} {password}\\r\\nb STATUS INBOX (MESSAGES)\\r\\n'; sleep 1; printf 'c LOGOUT\\r\\n') | \
         openssl s_client -quiet -verify_return_error -CAfile {ca} -connect {}",
        info.imaps
    )?;
    writeln!(
        out,
        "  openssl s_client -starttls imap -crlf -CAfile {ca} -connect {} </dev/null | grep -E 'Verif|Protocol|New,'",
        info.imap
    )?;
    writeln!(out, "  curl --cacert {ca} -u {login} pop3s://{}/1", info.pop3s)?;
    writeln!(out, "  curl --cacert {ca} --ssl-reqd -u {login} pop3://{}/", info.pop3)?;
    let other = info.tenants.last().and_then(|tenant| tenant.users.first()).unwrap_or(user);
    let to = &other.address;
    let message = format!("printf 'From: <{address}>\\r\\nTo: <{to}>\\r\\nSubject: Hello\\r\\n\\r\\nBonjour\\r\\n'");
    let envelope = format!("-u {login} --mail-from {address} --mail-rcpt {to} -T -");
    writeln!(out, "  {message} | curl --cacert {ca} {envelope} smtps://{}", info.submissions)?;
    writeln!(out, "  {message} | curl --cacert {ca} --ssl-reqd {envelope} smtp://{}", info.submission)?;
    writeln!(
        out,
        "  curl --cacert {ca} -u {to}:{} 'imaps://{}/INBOX;MAILINDEX=*'     # the last of them, read by its recipient",
        other.password, info.imaps
    )?;
    let plain = STANDARD.encode(format!("\0{address}\0{password}"));
    writeln!(
        out,
        "  (printf 'AUTHENTICATE \"PLAIN\" \"{plain}\"\\r\\n'; sleep 1; printf 'PUTSCRIPT \"mine\" {{7+}}\\r\\nkeep;\\r\\n\\r\\nLISTSCRIPTS\\r\\nLOGOUT\\r\\n') | \
         openssl s_client -starttls sieve -quiet -verify_return_error -CAfile {ca} -connect {}",
        info.sieve
    )?;
    writeln!(out, "  curl -s {}/metrics | grep ^guichet_", info.management)?;
    writeln!(out, "  {program} ctl --config {config} status\n")?;

    writeln!(out, "Take {}'s identity provider down and watch the fallback:", tenant.id)?;
    writeln!(out, "  curl -X POST '{}/down?tenant={}'", info.idp_control, tenant.id)?;
    writeln!(
        out,
        "  {program} ctl --config {config} idp list     # suspect, then down: after about 12 s here, two minutes by default"
    )?;
    writeln!(out, "  then open {}/login?tenant={} and log in as {address} with {password}", info.web, tenant.id)?;
    writeln!(out, "  curl -X POST '{}/up?tenant={}'", info.idp_control, tenant.id)
}

/// A word for a shell.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quote("/srv/demo"), "/srv/demo");
        assert_eq!(quote("/srv/my demo"), "'/srv/my demo'");
        assert_eq!(quote("it's"), "'it'\\''s'");
    }
}
