//! Times in words: "last Tuesday", "3 days ago", "in March", "before 2026-11-01", "between May and July". English, UTC, weeks
//! from Monday. What is no time stays behind as the text to search for.

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// What was understood of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Understood {
    /// From the first (inclusive) to the second (exclusive), milliseconds since 1970; open ends are the extremes. `None` where
    /// no time was said.
    pub range: Option<(i64, i64)>,
    /// The words that said no time.
    pub rest: String,
}

/// Reads an expression; `now_ms` is what "now" means.
pub fn understand(expression: &str, now_ms: i64) -> Understood {
    let words: Vec<&str> = expression.split_whitespace().collect();
    let plain: Vec<String> = words
        .iter()
        .map(|word| word.trim_matches(|c: char| ",.?!;:\"'()".contains(c)).to_lowercase())
        .collect();
    let reader = Reader { words: &plain, now_ms };
    let found = (0..plain.len()).find_map(|at| reader.clause(at).map(|(length, range)| (at, length, range)));
    let Some((at, length, range)) = found else {
        return Understood { range: None, rest: words.join(" ") };
    };
    let before = words.get(..at).unwrap_or_default();
    let after = words.get(at + length..).unwrap_or_default();
    Understood { range: Some(range), rest: [before, after].concat().join(" ") }
}

type Range = (i64, i64);

struct Reader<'a> {
    words: &'a [String],
    now_ms: i64,
}

impl Reader<'_> {
    fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }

    fn today(&self) -> Option<Date> {
        let now = Timestamp::from_millisecond(self.now_ms).ok()?;
        Some(now.to_zoned(TimeZone::UTC).date())
    }

    /// A time with what relates to it, from word `at` on: how many words, and the range.
    fn clause(&self, at: usize) -> Option<(usize, Range)> {
        match self.word(at) {
            "before" | "until" | "till" => {
                self.span(at + 1).map(|(length, (from, _))| (length + 1, (i64::MIN, from)))
            }
            "after" => self.span(at + 1).map(|(length, (_, to))| (length + 1, (to, i64::MAX))),
            "since" => self.span(at + 1).map(|(length, (from, _))| (length + 1, (from, i64::MAX))),
            "between" => self.pair(at, "and"),
            "from" => self.pair(at, "to").or_else(|| self.pair(at, "until")),
            "in" | "on" | "at" | "during" | "around" => {
                self.span(at + 1).map(|(length, range)| (length + 1, range))
            }
            _ => self.span(at),
        }
    }

    /// `between A and B`, `from A to B`: both ends belong to it.
    fn pair(&self, at: usize, joint: &str) -> Option<(usize, Range)> {
        let (first, (from, _)) = self.span(at + 1)?;
        if self.word(at + 1 + first) != joint {
            return None;
        }
        let (second, (_, to)) = self.span(at + 2 + first)?;
        (from < to).then_some((2 + first + second, (from, to)))
    }

    /// A time from word `at` on.
    fn span(&self, at: usize) -> Option<(usize, Range)> {
        let at_the = usize::from(self.word(at) == "the");
        let (length, range) = self
            .named_day(at + at_the)
            .or_else(|| self.relative(at + at_the))
            .or_else(|| self.ago(at + at_the))
            .or_else(|| self.calendar(at + at_the))?;
        Some((length + at_the, range))
    }

    fn named_day(&self, at: usize) -> Option<(usize, Range)> {
        let today = self.today()?;
        match (self.word(at), self.word(at + 1), self.word(at + 2)) {
            ("today" | "tonight", ..) => Some((1, day(today)?)),
            ("yesterday", ..) => Some((1, day(shift(today, Unit::Day, -1)?)?)),
            ("tomorrow", ..) => Some((1, day(shift(today, Unit::Day, 1)?)?)),
            ("day", "before", "yesterday") => Some((3, day(shift(today, Unit::Day, -2)?)?)),
            ("this", "morning" | "afternoon" | "evening", _) => Some((2, day(today)?)),
            ("last", "night", _) => Some((2, day(shift(today, Unit::Day, -1)?)?)),
            _ => {
                let weekday = weekday(self.word(at))?;
                Some((1, day(latest(today, weekday, true)?)?))
            }
        }
    }

    /// `last week`, `this month`, `next year`, `last Tuesday`, `last 3 days`, `past two weeks`.
    fn relative(&self, at: usize) -> Option<(usize, Range)> {
        let today = self.today()?;
        let step = match self.word(at) {
            "last" | "previous" | "past" => -1,
            "this" | "current" => 0,
            "next" | "coming" => 1,
            _ => return None,
        };
        if let Some(weekday) = weekday(self.word(at + 1)) {
            let date = match step {
                -1 => latest(today, weekday, false)?,
                0 => shift(week_of(today)?, Unit::Day, i64::from(weekday.to_monday_zero_offset()))?,
                _ => shift(latest(today, weekday, true)?, Unit::Day, 7)?,
            };
            return Some((2, day(date)?));
        }
        if let Some(unit) = unit(self.word(at + 1)) {
            return Some((2, self.whole(unit, step)?));
        }
        let (count, unit) = (number(self.word(at + 1))?, unit(self.word(at + 2))?);
        let far = self.moved(unit, step.checked_mul(count)?)?;
        match step {
            -1 => Some((3, (far, self.now_ms))),
            1 => Some((3, (self.now_ms, far))),
            _ => None,
        }
    }

    /// `3 days ago`, `a month ago`: the whole day, week, month.
    fn ago(&self, at: usize) -> Option<(usize, Range)> {
        let (count, unit) = (number(self.word(at))?, unit(self.word(at + 1))?);
        match self.word(at + 2) {
            "ago" | "earlier" => Some((3, self.whole(unit, count.checked_neg()?)?)),
            _ => None,
        }
    }

    /// The whole unit that lies `steps` from the one that now is in.
    fn whole(&self, unit: Unit, steps: i64) -> Option<Range> {
        let today = self.today()?;
        match unit {
            Unit::Minute | Unit::Hour => {
                let length = if unit == Unit::Hour { 3_600_000 } else { 60_000 };
                let from = self.now_ms.div_euclid(length).checked_add(steps)?.checked_mul(length)?;
                Some((from, from.checked_add(length)?))
            }
            Unit::Day => day(shift(today, Unit::Day, steps)?),
            Unit::Week => {
                let monday = shift(week_of(today)?, Unit::Week, steps)?;
                between(monday, shift(monday, Unit::Week, 1)?)
            }
            Unit::Month => {
                let first = shift(today.first_of_month(), Unit::Month, steps)?;
                between(first, shift(first, Unit::Month, 1)?)
            }
            Unit::Year => {
                let first = shift(today.first_of_year(), Unit::Year, steps)?;
                between(first, shift(first, Unit::Year, 1)?)
            }
        }
    }

    fn moved(&self, unit: Unit, by: i64) -> Option<i64> {
        let length = match unit {
            Unit::Minute => 60_000,
            Unit::Hour => 3_600_000,
            _ => {
                let today = self.today()?;
                return self.now_ms.checked_add(start(shift(today, unit, by)?)? - start(today)?);
            }
        };
        self.now_ms.checked_add(by.checked_mul(length)?)
    }

    /// `2026-11-20`, `2026-11`, `2026`, `March`, `March 2026`, `5 March 2026`, `March 5, 2026`.
    fn calendar(&self, at: usize) -> Option<(usize, Range)> {
        let word = self.word(at);
        if let Ok(at_ms) = word.to_uppercase().parse::<Timestamp>().map(|t| t.as_millisecond()) {
            return Some((1, (at_ms, at_ms.checked_add(1)?)));
        }
        if let Ok(date) = word.parse::<Date>() {
            return Some((1, day(date)?));
        }
        if let Some((year, month)) = word.split_once('-')
            && let (Some(year), Ok(month)) = (year_of(year), month.parse::<i8>())
        {
            return Some((1, whole_month(year, month)?));
        }
        if let Some(year) = year_of(word) {
            let first = Date::new(year, 1, 1).ok()?;
            return Some((1, between(first, shift(first, Unit::Year, 1)?)?));
        }
        let (month, dom, length) = match (month(word), day_of_month(word)) {
            (Some(month), _) => match day_of_month(self.word(at + 1)) {
                Some(dom) => (month, Some(dom), 2),
                None => (month, None, 1),
            },
            (None, Some(dom)) => {
                let of = usize::from(self.word(at + 1) == "of");
                (month(self.word(at + 1 + of))?, Some(dom), 2 + of)
            }
            _ => return None,
        };
        let said = year_of(self.word(at + length));
        let length = length + usize::from(said.is_some());
        let year = match said {
            Some(year) => year,
            None => self.year_that_was(month, dom)?,
        };
        match dom {
            Some(dom) => Some((length, day(Date::new(year, month, dom).ok()?)?)),
            None => Some((length, whole_month(year, month)?)),
        }
    }

    /// The year of the latest such month or day that is not in the future.
    fn year_that_was(&self, month: i8, dom: Option<i8>) -> Option<i16> {
        let today = self.today()?;
        let this = Date::new(today.year(), month, dom.unwrap_or(1)).ok()?;
        Some(if this > today { today.year() - 1 } else { today.year() })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

fn unit(word: &str) -> Option<Unit> {
    Some(match word {
        "minute" | "minutes" => Unit::Minute,
        "hour" | "hours" => Unit::Hour,
        "day" | "days" => Unit::Day,
        "week" | "weeks" => Unit::Week,
        "month" | "months" => Unit::Month,
        "year" | "years" => Unit::Year,
        _ => return None,
    })
}

fn number(word: &str) -> Option<i64> {
    const WORDS: [&str; 13] = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
        "twelve",
    ];
    match word {
        "a" | "an" => Some(1),
        "few" => Some(3),
        _ => match WORDS.iter().position(|known| *known == word) {
            Some(value) => Some(value as i64),
            None => word.parse().ok().filter(|n| (0..=100_000).contains(n)),
        },
    }
}

fn weekday(word: &str) -> Option<Weekday> {
    Some(match word {
        "monday" | "mondays" => Weekday::Monday,
        "tuesday" | "tuesdays" => Weekday::Tuesday,
        "wednesday" | "wednesdays" => Weekday::Wednesday,
        "thursday" | "thursdays" => Weekday::Thursday,
        "friday" | "fridays" => Weekday::Friday,
        "saturday" | "saturdays" => Weekday::Saturday,
        "sunday" | "sundays" => Weekday::Sunday,
        _ => return None,
    })
}

fn month(word: &str) -> Option<i8> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let at =
        MONTHS.iter().position(|month| *month == word || (word.len() == 3 && month.starts_with(word)))?;
    i8::try_from(at + 1).ok()
}

fn day_of_month(word: &str) -> Option<i8> {
    let digits = ["st", "nd", "rd", "th"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
    digits.parse().ok().filter(|day| (1..=31).contains(day))
}

fn year_of(word: &str) -> Option<i16> {
    (word.len() == 4).then(|| word.parse().ok())?.filter(|year| (1900..=2200).contains(year))
}

fn shift(date: Date, unit: Unit, by: i64) -> Option<Date> {
    let span = match unit {
        Unit::Day => Span::new().try_days(by),
        Unit::Week => Span::new().try_weeks(by),
        Unit::Month => Span::new().try_months(by),
        Unit::Year => Span::new().try_years(by),
        Unit::Minute | Unit::Hour => return None,
    };
    date.checked_add(span.ok()?).ok()
}

/// The Monday of a date's week.
fn week_of(date: Date) -> Option<Date> {
    shift(date, Unit::Day, -i64::from(date.weekday().to_monday_zero_offset()))
}

/// The latest such weekday, today included or not.
fn latest(today: Date, weekday: Weekday, with_today: bool) -> Option<Date> {
    let back = i64::from(today.weekday().since(weekday));
    let back = if back == 0 && !with_today { 7 } else { back };
    shift(today, Unit::Day, -back)
}

fn start(date: Date) -> Option<i64> {
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

fn between(from: Date, to: Date) -> Option<Range> {
    Some((start(from)?, start(to)?))
}

fn day(date: Date) -> Option<Range> {
    between(date, shift(date, Unit::Day, 1)?)
}

fn whole_month(year: i16, month: i8) -> Option<Range> {
    let first = Date::new(year, month, 1).ok()?;
    between(first, shift(first, Unit::Month, 1)?)
}

/// The start of the hour, day, week or month (UTC) that a time lies in.
pub fn bucket_start(at_ms: i64, size: athena_schemas::layers::episodic::BucketSize) -> i64 {
    use athena_schemas::layers::episodic::BucketSize;
    let whole = |unit| Reader { words: &[], now_ms: at_ms }.whole(unit, 0).map_or(at_ms, |(from, _)| from);
    match size {
        BucketSize::Hour => whole(Unit::Hour),
        BucketSize::Day => whole(Unit::Day),
        BucketSize::Week => whole(Unit::Week),
        BucketSize::Month => whole(Unit::Month),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use athena_schemas::layers::common::{millis, time};

    /// A Friday.
    const NOW: &str = "2026-11-20T10:30:00Z";

    fn read(expression: &str) -> (String, String, String) {
        let understood = understand(expression, millis(NOW).unwrap());
        let show = |at: i64| match at {
            i64::MIN | i64::MAX => "…".into(),
            at => time(at).trim_end_matches("T00:00:00Z").to_owned(),
        };
        let (from, to) = understood.range.map_or(("none".into(), "none".into()), |(f, t)| (show(f), show(t)));
        (from, to, understood.rest)
    }

    fn range(expression: &str) -> (String, String) {
        let (from, to, rest) = read(expression);
        assert_eq!(rest, "", "{expression}");
        (from, to)
    }

    fn is(expression: &str, from: &str, to: &str) {
        assert_eq!(range(expression), (from.into(), to.into()), "{expression}");
    }

    #[test]
    fn days_are_named() {
        is("today", "2026-11-20", "2026-11-21");
        is("yesterday", "2026-11-19", "2026-11-20");
        is("the day before yesterday", "2026-11-18", "2026-11-19");
        is("last Tuesday", "2026-11-17", "2026-11-18");
        is("last friday", "2026-11-13", "2026-11-14");
        is("on Friday", "2026-11-20", "2026-11-21");
        is("this monday", "2026-11-16", "2026-11-17");
    }

    #[test]
    fn spans_are_counted_from_now() {
        is("3 days ago", "2026-11-17", "2026-11-18");
        is("a month ago", "2026-10-01", "2026-11-01");
        is("two weeks ago", "2026-11-02", "2026-11-09");
        is("last week", "2026-11-09", "2026-11-16");
        is("this year", "2026-01-01", "2027-01-01");
        is("last 3 days", "2026-11-17T10:30:00Z", "2026-11-20T10:30:00Z");
        is("past two hours", "2026-11-20T08:30:00Z", "2026-11-20T10:30:00Z");
        is("an hour ago", "2026-11-20T09:00:00Z", "2026-11-20T10:00:00Z");
    }

    #[test]
    fn the_calendar_is_read() {
        is("in March", "2026-03-01", "2026-04-01");
        is("in December", "2025-12-01", "2026-01-01");
        is("March 2024", "2024-03-01", "2024-04-01");
        is("5 March 2024", "2024-03-05", "2024-03-06");
        is("on March 5th, 2024", "2024-03-05", "2024-03-06");
        is("the 5th of March", "2026-03-05", "2026-03-06");
        is("in 2024", "2024-01-01", "2025-01-01");
        is("2024-02", "2024-02-01", "2024-03-01");
        is("2024-02-29", "2024-02-29", "2024-03-01");
    }

    #[test]
    fn times_relate() {
        is("before 2026-11-01", "…", "2026-11-01");
        is("after last week", "2026-11-16", "…");
        is("since Monday", "2026-11-16", "…");
        is("between May and July", "2026-05-01", "2026-08-01");
        is("from 2026-01-03 to 2026-01-05", "2026-01-03", "2026-01-06");
    }

    #[test]
    fn what_is_no_time_is_left() {
        assert_eq!(
            read("What did Ana say about the kettle last week?").2,
            "What did Ana say about the kettle"
        );
        assert_eq!(
            read("kettle in the red cupboard"),
            ("none".into(), "none".into(), "kettle in the red cupboard".into())
        );
        assert_eq!(read("99999999999 years ago").0, "none");
        assert_eq!(read("2026-13-45").0, "none");
    }

    proptest::proptest! {
        #[test]
        fn no_expression_breaks_it(expression in "(last|next|in|[0-9]{1,12}|years|days|ago|may|before|and|between|[a-z ]{0,8}| ){0,8}", now in proptest::num::i64::ANY) {
            if let Some((from, to)) = understand(&expression, now).range {
                proptest::prop_assert!(from <= to, "{expression:?} at {now}");
            }
        }
    }
}
