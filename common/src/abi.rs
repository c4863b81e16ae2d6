//! Compile-time proof of a layout that two programs share.

/// Proves size, alignment and every field's offset, and that there is no padding byte.
///
/// The destructuring pattern is exhaustive, so a new field cannot be forgotten; the sum of the
/// field sizes equals the size only without padding. Padding bytes would leave uninitialised
/// stack bytes in maps, which the verifier refuses, and make values differ bytewise.
macro_rules! assert_layout {
    ($ty:ident, size $size:literal, align $align:literal, { $($field:ident @ $at:literal),+ $(,)? }) => {
        const _: () = {
            assert!(core::mem::size_of::<$ty>() == $size);
            assert!(core::mem::align_of::<$ty>() == $align);
            $(assert!(core::mem::offset_of!($ty, $field) == $at);)+
            let $ty { $($field),+ } = &<$ty>::ZERO;
            assert!(0 $(+ core::mem::size_of_val($field))+ == $size, "padding bytes");
        };
        // SAFETY: `repr(C)`, integer fields only, no padding (asserted above), so every byte
        // pattern of this size is a valid value and every value is fully initialised.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $ty {}
    };
}
pub(crate) use assert_layout;
