"""Operations with several implementations. `sonant.kernels` chooses one."""
