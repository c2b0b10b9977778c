// SPDX-License-Identifier: MPL-2.0

//! Messages whose schema goes into the file with them.

use std::borrow::Cow;

use foxglove::Encode;
use foxglove::messages::{CameraCalibration, CompressedVideo};

use super::proto::{Bundle, Imu};

/// Descriptors of the messages of `proto/cvmmap_streamer.proto`, and of those within.
const OURS: &[u8] = include_bytes!("cvmmap_streamer.binpb");

/// A protobuf message with its schema.
pub trait Described: prost::Message {
    /// With the package.
    const NAME: &'static str;

    /// A `google.protobuf.FileDescriptorSet`.
    fn descriptors() -> Cow<'static, [u8]>;
}

macro_rules! described {
    ($($message:ident by $descriptors:expr, as $name:literal;)*) => {$(
        impl Described for $message {
            const NAME: &'static str = $name;

            fn descriptors() -> Cow<'static, [u8]> {
                $descriptors
            }
        }
    )*};
}

described! {
    CompressedVideo by foxgloves::<Self>(), as "foxglove.CompressedVideo";
    CameraCalibration by foxgloves::<Self>(), as "foxglove.CameraCalibration";
    Bundle by OURS.into(), as "cvmmap_streamer.Bundle";
    Imu by OURS.into(), as "cvmmap_streamer.Imu";
}

fn foxgloves<M: Encode>() -> Cow<'static, [u8]> {
    M::get_schema().expect("the library has it").data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foxgloves_names_are_theirs() {
        fn check<M: Described + Encode>() {
            let schema = M::get_schema().unwrap();
            assert_eq!((schema.name.as_str(), schema.encoding.as_str()), (M::NAME, "protobuf"));
            assert_eq!(M::get_message_encoding(), "protobuf");
        }
        check::<CompressedVideo>();
        check::<CameraCalibration>();
    }
}
