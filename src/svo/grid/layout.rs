// SPDX-License-Identifier: MPL-2.0

//! Where each camera's picture lies in the grid's.

/// Smaller ones encoders do not take, and nobody would see what is on them.
const MIN_SIDE: u32 = 16;
/// The longest side that encoders take.
const MAX_SIDE: u32 = 16_384;
/// 8192x4352: the most that H.264 and H.265 have a level for.
const MAX_PIXELS: u64 = 8192 * 4352;

/// A part of a picture, in pixels; all are even, as 4:2:0 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// From the left.
    pub x: u32,
    /// From the top.
    pub y: u32,
    /// Of the part.
    pub width: u32,
    /// Of the part.
    pub height: u32,
}

/// Tiles in rows, from the left to the right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Tiles in a row.
    pub columns: u32,
    /// Rows of tiles.
    pub rows: u32,
    /// Width and height of each tile: that of the largest picture.
    pub tile: (u32, u32),
    /// Where in its tile each picture is shown: in the middle.
    pub pictures: Vec<Rect>,
}

impl Layout {
    /// Of pictures of these sizes, all at one scale. Unless `columns` says otherwise, two or three are in one row, and
    /// more in as many columns as rows, or one more.
    ///
    /// # Errors
    /// The flag, its value and the rule.
    pub fn new(sizes: &[(u32, u32)], scale: f64, columns: Option<u32>) -> Result<Self, String> {
        let count = sizes.len() as u32;
        let columns = columns.unwrap_or(match count {
            0..=3 => count,
            more => f64::from(more).sqrt().ceil() as u32,
        });
        // A column without a picture says nothing, and in a batch segments have more cameras and fewer.
        let columns = columns.clamp(1, count.max(1));
        let rows = count.div_ceil(columns);
        let even = |side: u32| (f64::from(side) * scale).round().min(f64::from(u32::MAX)) as u32 & !1;
        let scaled: Vec<_> = sizes.iter().map(|&(width, height)| (even(width), even(height))).collect();
        if let Some((from, to)) = sizes.iter().zip(&scaled).find(|(_, to)| to.0.min(to.1) < MIN_SIDE) {
            return Err(format!(
                "--tile-scale {scale}: a picture of {}x{} becomes {}x{}; {MIN_SIDE}x{MIN_SIDE} is the least",
                from.0, from.1, to.0, to.1
            ));
        }
        let side = |of: fn(&(u32, u32)) -> u32| scaled.iter().map(of).max().unwrap_or(0);
        let tile = (side(|size| size.0), side(|size| size.1));
        let whole = (u64::from(columns) * u64::from(tile.0), u64::from(rows) * u64::from(tile.1));
        if whole.0.max(whole.1) > u64::from(MAX_SIDE) || whole.0 * whole.1 > MAX_PIXELS {
            return Err(format!(
                "--tile-scale {scale}: the grid would be {}x{}; {MAX_SIDE} a side and {MAX_PIXELS} pixels \
                 (8192x4352) are the most",
                whole.0, whole.1
            ));
        }
        let middle = |side: u32, tile: u32| ((tile - side) / 2) & !1;
        let picture = |(n, &(width, height)): (usize, &(u32, u32))| {
            let (column, row) = (n as u32 % columns, n as u32 / columns);
            let (x, y) = (column * tile.0 + middle(width, tile.0), row * tile.1 + middle(height, tile.1));
            Rect { x, y, width, height }
        };
        let pictures = scaled.iter().enumerate().map(picture).collect();
        Ok(Self { columns, rows, tile, pictures })
    }

    /// Width and height of the whole.
    pub fn size(&self) -> (u32, u32) {
        (self.columns * self.tile.0, self.rows * self.tile.1)
    }

    /// Whether the pictures leave something of the whole free.
    pub fn has_gaps(&self) -> bool {
        let (width, height) = self.size();
        let area = |rect: &Rect| u64::from(rect.width) * u64::from(rect.height);
        self.pictures.iter().map(area).sum::<u64>() < u64::from(width) * u64::from(height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn corners(layout: &Layout) -> Vec<(u32, u32)> {
        layout.pictures.iter().map(|rect| (rect.x, rect.y)).collect()
    }

    #[test]
    fn four_are_two_by_two_and_fewer_are_in_a_row() {
        let four = Layout::new(&[(1920, 1200); 4], 0.5, None).unwrap();
        assert_eq!((four.size(), four.tile, four.has_gaps()), ((1920, 1200), (960, 600), false));
        assert_eq!(corners(&four), [(0, 0), (960, 0), (0, 600), (960, 600)]);
        let three = Layout::new(&[(640, 360); 3], 0.5, None).unwrap();
        assert_eq!((three.size(), corners(&three)), ((960, 180), vec![(0, 0), (320, 0), (640, 0)]));
        let five = Layout::new(&[(640, 360); 5], 0.5, None).unwrap();
        assert_eq!((five.columns, five.rows, five.has_gaps()), (3, 2, true));
        assert_eq!(Layout::new(&[(640, 360); 7], 1.0, None).unwrap().columns, 3);
        assert_eq!(Layout::new(&[(640, 360); 4], 1.0, Some(1)).unwrap().size(), (640, 1440));
        // No column stays empty.
        let two = Layout::new(&[(640, 360); 2], 0.5, Some(3)).unwrap();
        assert_eq!((two.columns, two.rows, two.size(), two.has_gaps()), (2, 1, (640, 180), false));
    }

    #[test]
    fn smaller_pictures_are_in_the_middle_of_their_tiles() {
        let layout = Layout::new(&[(1280, 720), (640, 480)], 0.5, None).unwrap();
        assert_eq!((layout.tile, layout.size()), ((640, 360), (1280, 360)));
        assert_eq!(layout.pictures[1], Rect { x: 640 + 160, y: 60, width: 320, height: 240 });
    }

    #[test]
    fn what_makes_no_picture_is_told() {
        let error = |scale| Layout::new(&[(640, 360); 4], scale, None).unwrap_err();
        assert!(error(0.02).contains("--tile-scale 0.02: a picture of 640x360 becomes 12x6"));
        assert!(error(100.0).contains("128000x72000") && error(1e300).contains("--tile-scale"));
    }

    proptest! {
        #[test]
        fn pictures_are_even_and_within_and_apart(
            sizes in prop::collection::vec((100u32..700, 100u32..700), 2..10), scale in 0.2f64..1.5
        ) {
            let layout = Layout::new(&sizes, scale, None).unwrap();
            let (width, height) = layout.size();
            for (n, rect) in layout.pictures.iter().enumerate() {
                prop_assert!([rect.x, rect.y, rect.width, rect.height].iter().all(|side| side % 2 == 0));
                prop_assert!(rect.x + rect.width <= width && rect.y + rect.height <= height);
                for other in &layout.pictures[..n] {
                    let beside = rect.x >= other.x + other.width || other.x >= rect.x + rect.width;
                    let below = rect.y >= other.y + other.height || other.y >= rect.y + rect.height;
                    prop_assert!(beside || below, "{rect:?} {other:?}");
                }
            }
        }
    }
}
