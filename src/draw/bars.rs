//! Small bars for terminal tables.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One character for a probability: `▁` for anything above 0 up to `█` for 1; a space for 0 and for NaN.
pub fn bar(p: f64) -> char {
    if p > 0.0 { BARS[((p * 8.0).ceil() as usize).clamp(1, 8) - 1] } else { ' ' }
}

/// A row of bars, each value over `max`. A `max` that is not above 0 gives spaces.
pub fn bars(values: &[f64], max: f64) -> String {
    values.iter().map(|v| if max > 0.0 { bar(v / max) } else { ' ' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_grow_with_the_probability() {
        assert_eq!(bars(&[0.0, 0.01, 0.13, 0.47, 0.52, 0.875, 0.88, 1.0, 7.0], 1.0), " ▁▂▄▅▇███");
        assert_eq!(bars(&[1.0, 2.0], 4.0), "▂▄");
    }

    #[test]
    fn nothing_and_nonsense_are_blank() {
        assert_eq!(bars(&[f64::NAN, -1.0], 1.0), "  ");
        assert_eq!(bars(&[1.0], 0.0), " ");
    }
}
