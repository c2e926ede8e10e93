package govern

// risks is written below.
func (s *settling) risks() error { return nil }
