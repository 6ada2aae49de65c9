//! Check digits and lengths: what tells a number from a number that means something.

use super::bytes::at;
use sha2::{Digest, Sha256};

/// Luhn's check (ISO/IEC 7812-1 annex B) over ASCII digits.
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| {
            let d = u32::from(d.wrapping_sub(b'0'));
            if i % 2 == 0 { d } else { d * 2 / 10 + d * 2 % 10 }
        })
        .sum();
    sum.is_multiple_of(10) && digits.iter().any(|d| *d != b'0')
}

/// Whether a card network issues numbers of this prefix and length, and the check digit holds.
pub(super) fn card(digits: &[u8]) -> bool {
    let prefix =
        |n: usize| digits.iter().take(n).fold(0_u32, |sum, d| sum * 10 + u32::from(d.wrapping_sub(b'0')));
    let issued = match (digits.len(), prefix(1), prefix(2), prefix(3), prefix(4)) {
        (13 | 16 | 19, 4, ..) => true,
        (16, _, 51..=55, ..) | (16, _, _, _, 2200..=2204 | 2221..=2720) => true,
        (15, _, 34 | 37, ..) => true,
        (15, _, 10..=12, ..) => true,
        (14..=19, _, 36 | 38 | 39, ..) | (14..=19, _, _, 300..=305, _) => true,
        (16..=19, _, 62 | 65, ..)
        | (16..=19, _, _, 644..=649, _)
        | (16..=19, _, _, _, 6011 | 3528..=3589) => true,
        (12..=19, _, _, _, 5018..=5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763) => true,
        (16, _, 60 | 81 | 82, 508, _) => true,
        _ => false,
    };
    issued && luhn(digits)
}

/// Length of an IBAN by country (SWIFT IBAN registry).
fn iban_length(country: [u8; 2]) -> Option<usize> {
    Some(match &country {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FK" | b"FI" | b"FO" | b"GL" | b"NL" | b"SD" => 18,
        b"MK" | b"SI" => 19,
        b"AT" | b"BA" | b"EE" | b"KZ" | b"LT" | b"LU" | b"MN" | b"XK" => 20,
        b"CH" | b"HR" | b"LI" | b"LV" => 21,
        b"BG" | b"BH" | b"CR" | b"DE" | b"GB" | b"GE" | b"IE" | b"ME" | b"RS" | b"VA" => 22,
        b"AE" | b"GI" | b"IL" | b"IQ" | b"OM" | b"SO" | b"TL" => 23,
        b"AD" | b"CZ" | b"ES" | b"MD" | b"PK" | b"RO" | b"SA" | b"SE" | b"SK" | b"TN" | b"VG" => 24,
        b"LY" | b"PT" | b"ST" => 25,
        b"IS" | b"TR" => 26,
        b"BI" | b"DJ" | b"FR" | b"GR" | b"IT" | b"MC" | b"MR" | b"SM" => 27,
        b"AL" | b"AZ" | b"BY" | b"CY" | b"DO" | b"GT" | b"HN" | b"HU" | b"LB" | b"NI" | b"PL" | b"SV" => 28,
        b"BR" | b"EG" | b"PS" | b"QA" | b"UA" => 29,
        b"JO" | b"KW" | b"MU" | b"YE" => 30,
        b"MT" | b"SC" => 31,
        b"LC" => 32,
        b"RU" => 33,
        _ => return None,
    })
}

/// Whether compact upper-case text is an IBAN: its country's length and ISO 7064 mod 97-10.
pub(super) fn iban(compact: &[u8]) -> bool {
    iban_length([at(compact, 0), at(compact, 1)]) == Some(compact.len())
        && compact.iter().cycle().skip(4).take(compact.len()).fold(0_u32, |rest, b| {
            if b.is_ascii_digit() {
                (rest * 10 + u32::from(b - b'0')) % 97
            } else {
                (rest * 100 + u32::from(b.wrapping_sub(b'A')) + 10) % 97
            }
        }) == 1
}

/// The expected length of an IBAN that begins with these two letters.
pub(super) fn iban_expects(country: [u8; 2]) -> Option<usize> {
    iban_length(country)
}

/// Base58Check (Bitcoin addresses of versions 0 and 5): 25 bytes whose last four are a double SHA-256.
pub(super) fn base58check(text: &[u8]) -> bool {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut bytes = [0_u8; 25];
    for c in text {
        let Some(mut carry) = ALPHABET.iter().position(|a| a == c) else { return false };
        for byte in bytes.iter_mut().rev() {
            carry += usize::from(*byte) * 58;
            *byte = (carry & 0xff) as u8;
            carry >>= 8;
        }
        if carry != 0 {
            return false;
        }
    }
    let (body, sum) = bytes.split_at(21);
    let digest = Sha256::digest(Sha256::digest(body));
    digest.get(..4) == Some(sum)
}

/// Bech32 and bech32m (BIP 173, BIP 350): the polynomial's remainder is one of two constants.
pub(super) fn bech32(text: &[u8], prefix: usize) -> bool {
    const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    fn step(sum: u32, value: u32) -> u32 {
        let top = sum >> 25;
        let shifted = ((sum & 0x01ff_ffff) << 5) ^ value;
        GENERATOR
            .iter()
            .enumerate()
            .fold(shifted, |sum, (i, g)| if top >> i & 1 == 1 { sum ^ g } else { sum })
    }
    let Some((human, data)) = text.split_at_checked(prefix) else { return false };
    let mut sum = 1;
    for b in human {
        sum = step(sum, u32::from(b.to_ascii_lowercase()) >> 5);
    }
    sum = step(sum, 0);
    for b in human {
        sum = step(sum, u32::from(b.to_ascii_lowercase()) & 31);
    }
    for b in data.iter().skip(1) {
        let Some(value) = ALPHABET.iter().position(|a| *a == b.to_ascii_lowercase()) else { return false };
        sum = step(sum, value as u32);
    }
    matches!(sum, 1 | 0x2bc8_30a3)
}

/// How many digits follow a country code in a valid number, after ITU-T E.164 and the national plans; 0 where there is no such code.
///
/// The table is coarse: the most used codes have their own lengths, the rest 7 to 11.
pub(super) fn phone(digits: &[u8]) -> bool {
    let number =
        |n: usize| digits.iter().take(n).fold(0_u32, |sum, d| sum * 10 + u32::from(d.wrapping_sub(b'0')));
    let rest = |code: usize| digits.len().saturating_sub(code);
    match (number(1), number(2), number(3)) {
        (1, ..) => {
            rest(1) == 10 && matches!(at(digits, 1), b'2'..=b'9') && matches!(at(digits, 4), b'2'..=b'9')
        }
        (7, ..) => rest(1) == 10,
        (_, 33 | 31 | 32 | 34 | 41 | 45 | 47 | 48 | 61, _) => (8..=9).contains(&rest(2)),
        (_, 90 | 91 | 63 | 57 | 92 | 66 | 20, _) => (9..=10).contains(&rest(2)),
        (_, 86, _) => (10..=11).contains(&rest(2)),
        (_, 44 | 55 | 52 | 54 | 81 | 82, _) => (9..=11).contains(&rest(2)),
        (
            _,
            27 | 30 | 36 | 39 | 40 | 43 | 46 | 49 | 51 | 53 | 56 | 58 | 60 | 62 | 64 | 65 | 84 | 93..=95 | 98,
            _,
        ) => (6..=12).contains(&rest(2)),
        (
            ..,
            210..=299
            | 350..=389
            | 420..=423
            | 500..=509
            | 590..=599
            | 670..=692
            | 850..=856
            | 880..=886
            | 960..=998,
        ) => (6..=10).contains(&rest(3)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_test_numbers_pass_and_their_neighbours_do_not() {
        assert!(card(b"4111111111111111") && !card(b"4111111111111112"));
        assert!(card(b"2223003122003222") && card(b"378282246310005"));
        assert!(iban(b"GB82WEST12345698765432") && !iban(b"GB82WEST12345698765433"));
        assert!(!iban(b"GB82WEST1234569876543"));
        assert!(
            base58check(b"1BoatSLRHtKNngkdXEeobR76b53LETtpyT")
                && !base58check(b"1BoatSLRHtKNngkdXEeobR76b53LETtpyU")
        );
        assert!(bech32(b"bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", 2));
        assert!(!bech32(b"bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdr", 2));
        assert!(phone(b"14155550132") && !phone(b"14151230132") && phone(b"4915167534629"));
    }
}
