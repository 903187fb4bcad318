//! Pictures of curves.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

/// A server along a curve.
pub struct Line {
    pub title: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// How an axis grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From zero.
    Linear,
    Log,
}

const SIZE: (u32, u32) = (720, 440);
/// Told apart by people who see colours differently, too (Okabe and Ito).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];

/// Draws lines into an SVG file. The horizontal axis is one of powers, so zero has no place on it.
pub fn draw(file: &Path, title: &str, x: (&str, Scale), y: (&str, Scale), lines: &[Line]) -> Result<()> {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let end =
        |of: fn((f64, f64)) -> f64, pick: fn(f64, f64) -> f64, start: f64| points().map(of).fold(start, pick);
    let (left, right) = (end(|point| point.0, f64::min, f64::MAX), end(|point| point.0, f64::max, 0.0));
    let (bottom, top) = (end(|point| point.1, f64::min, f64::MAX), end(|point| point.1, f64::max, 0.0));
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    let drawn = match y.1 {
        Scale::Linear => {
            lines_on(&area, title, (x.0, (left..right).log_scale()), (y.0, 0.0..top * 1.05), lines)
        }
        Scale::Log => {
            let range = (bottom * 0.8..top * 1.25).log_scale();
            lines_on(&area, title, (x.0, (left..right).log_scale()), (y.0, range), lines)
        }
    };
    drawn.and_then(|()| Ok(area.present()?)).map_err(|error| anyhow!("{}: {error}", file.display()))
}

fn lines_on<X, Y>(
    area: &DrawingArea<SVGBackend, Shift>,
    title: &str,
    x: (&str, X),
    y: (&str, Y),
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error>>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(x.1, y.1)?;
    let number = |number: &f64| match *number {
        number if number >= 1e6 => format!("{}M", number / 1e6),
        number if number >= 1e3 => format!("{}k", number / 1e3),
        number => format!("{number}"),
    };
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(x.0)
        .y_desc(y.0)
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let series = LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)).point_size(3);
        let legend = |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2));
        chart.draw_series(series)?.label(line.title).legend(legend);
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_drawn_with_their_names() {
        let directory = tempfile::tempdir().expect("there is room");
        let file = directory.path().join("plot.svg");
        let lines = [
            Line { title: "one server", points: vec![(1.0, 10.0), (10.0, 20.0), (1_000.0, 15.0)] },
            Line { title: "another", points: vec![(1.0, 1.0), (10.0, 2_500.0)] },
        ];
        for scale in [Scale::Linear, Scale::Log] {
            draw(&file, "a title", ("connections", Scale::Log), ("operations", scale), &lines)
                .expect("it draws");
            let text = std::fs::read_to_string(&file).expect("it is there");
            for word in ["<svg", "a title", "connections", "operations", "one server", "another", "1k"] {
                assert!(text.contains(word), "{word}");
            }
        }
    }
}
