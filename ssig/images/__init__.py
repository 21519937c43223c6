"""Operations on images and maps: blurs, segments, and maps that are smoothed."""
