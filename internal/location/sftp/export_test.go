package sftp

// WithoutLinks makes a place as a server without hard links would be.
func WithoutLinks(cfg Config) Config {
	cfg.noLinks = true
	return cfg
}
