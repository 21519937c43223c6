"""Operations on images and maps: blurs, segments, and the smoothing of maps."""
