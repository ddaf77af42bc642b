//! x
/// x
pub fn yaml(_u: &[(String, String)], _s: &[(String, u32)]) -> Result<String, String> {
    Err("no".into())
}
