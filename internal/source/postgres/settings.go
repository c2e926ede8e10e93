package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// A settingsRecord is what a base backup keeps of the configuration beyond the data
// directory: distributions put the files elsewhere, and the log does not carry them.
type settingsRecord struct {
	// Settings that differ from the built-in defaults.
	Settings []setting `json:"settings"`
	// Access are the host-based access rules; nil if we may not read them.
	Access []accessRule `json:"access"`
	// Relations name the files of the database that the connection string names, so
	// that the log can be read with names in it.
	Relations []relationName `json:"relations,omitempty"`
	// Missing says what could not be read, and why.
	Missing []string `json:"missing,omitempty"`
}

type setting struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Source  string `json:"source"`
	Context string `json:"context"`
}

type relationName struct {
	Database uint32 `json:"db"`
	File     uint32 `json:"file"`
	Number   uint32 `json:"oid"`
	Name     string `json:"name"`
	Kind     string `json:"kind"` // as pg_class has it: r, m, i, t, …
}

// maxRelations bounds the relations of one record.
const maxRelations = 50_000

type accessRule struct {
	Type     string   `json:"type"`
	Database []string `json:"database"`
	User     []string `json:"user_name"`
	Address  string   `json:"address"`
	Netmask  string   `json:"netmask"`
	Method   string   `json:"auth_method"`
	Options  []string `json:"options"`
}

// A replication-only role may still ask for these.
var settingsWithoutSQL = []string{
	"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction",
	"wal_level", "port", "server_encoding", "password_encryption", "ssl",
}

// captureSettings reads the configuration as far as our role may, and says what it
// could not read. It never fails a backup: the data is worth more.
func (s *Source) captureSettings(ctx context.Context) []byte {
	var rec settingsRecord
	if err := s.queryJSON(ctx, `SELECT coalesce(json_agg(json_build_object('name', name, 'value', pg_catalog.current_setting(name),
		'source', source, 'context', context) ORDER BY name), '[]') FROM pg_catalog.pg_settings
		WHERE source NOT IN ('default', 'override', 'client', 'session') AND context <> 'internal'`, &rec.Settings); err != nil {
		rec.Missing = append(rec.Missing, fmt.Sprintf("settings: %v", err))
		rec.Settings = s.showSettings(ctx)
	}
	if err := s.queryJSON(ctx, `SELECT coalesce(json_agg(to_json(r) ORDER BY line_number), '[]') FROM (
		SELECT line_number, type, database, user_name, address, netmask, auth_method, options
		FROM pg_catalog.pg_hba_file_rules WHERE error IS NULL) r`, &rec.Access); err != nil {
		rec.Missing = append(rec.Missing, fmt.Sprintf("access rules: %v", err))
	}
	if err := s.queryJSON(ctx, fmt.Sprintf(`SELECT coalesce(json_agg(r), '[]') FROM (SELECT d.oid::bigint AS db, pg_catalog.pg_relation_filenode(c.oid)::bigint AS file,
		c.oid::bigint AS oid, n.nspname || '.' || c.relname AS name, c.relkind AS kind
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, pg_catalog.pg_database d
		WHERE d.datname = pg_catalog.current_database() AND c.oid >= 16384 AND pg_catalog.pg_relation_filenode(c.oid) IS NOT NULL LIMIT %d) r`, maxRelations), &rec.Relations); err != nil {
		rec.Missing = append(rec.Missing, fmt.Sprintf("names of relations: %v", err))
	}
	b, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return []byte("{}")
	}
	return append(b, '\n')
}

func (s *Source) queryJSON(ctx context.Context, sql string, v any) error {
	rows, err := s.query(ctx, sql)
	if err != nil {
		return err
	}
	if len(rows) != 1 || len(rows[0]) != 1 {
		return fmt.Errorf("%d rows instead of one", len(rows))
	}
	return json.Unmarshal([]byte(rows[0][0]), v)
}

func (s *Source) showSettings(ctx context.Context) []setting {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil
	}
	defer conn.close()
	var all []setting
	for _, name := range settingsWithoutSQL {
		if v, err := conn.show(ctx, name); err == nil {
			all = append(all, setting{Name: name, Value: v, Source: "unknown"})
		}
	}
	return all
}

// notRestored are settings that name places of the source, or that a recovery
// decides by itself.
var notRestored = map[string]bool{
	"data_directory": true, "config_file": true, "hba_file": true, "ident_file": true, "external_pid_file": true,
	"unix_socket_directories": true, "log_directory": true, "stats_temp_directory": true,
	"ssl_cert_file": true, "ssl_key_file": true, "ssl_ca_file": true, "ssl": true, "listen_addresses": true, "port": true,
	"archive_command": true, "archive_library": true, "archive_mode": true, "restore_command": true, "primary_conninfo": true,
	"primary_slot_name": true, "recovery_target_timeline": true, "cluster_name": true, "server_encoding": true,
	"synchronous_standby_names": true, "TimeZone": false,
}

// configText writes a postgresql.conf from captured settings, for a cluster whose
// configuration lay outside its data directory.
func (r *settingsRecord) configText() string {
	var b strings.Builder
	b.WriteString("# Written by Holdfast from the settings that the source ran with: its own file lay outside\n" +
		"# the data directory. Settings that named places of the source are left out.\n")
	for _, s := range r.Settings {
		if notRestored[s.Name] || strings.HasPrefix(s.Source, "environment") || s.Source == "command line" {
			continue
		}
		fmt.Fprintf(&b, "%s = '%s'\n", s.Name, strings.ReplaceAll(s.Value, "'", "''"))
	}
	return b.String()
}

// accessText writes a pg_hba.conf. Without captured rules it lets in whoever is on
// the machine as themselves, and passwords from elsewhere.
func (r *settingsRecord) accessText() string {
	var b strings.Builder
	b.WriteString("# Written by Holdfast: the source's own file lay outside the data directory.\n")
	if len(r.Access) == 0 {
		b.WriteString("# Its rules could not be read. Check these before you open the server to others.\n" +
			"local all all peer\nhost all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256\n")
		return b.String()
	}
	for _, a := range r.Access {
		fmt.Fprintf(&b, "%s %s %s", a.Type, hbaNames(a.Database), hbaNames(a.User))
		if a.Address != "" {
			fmt.Fprintf(&b, " %s", a.Address)
			if a.Netmask != "" {
				fmt.Fprintf(&b, " %s", a.Netmask)
			}
		}
		fmt.Fprintf(&b, " %s", a.Method)
		for _, o := range a.Options {
			fmt.Fprintf(&b, " %q", o)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// hbaNames writes names for pg_hba.conf; the special words stay bare.
func hbaNames(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		switch {
		case n == "all" || n == "replication" || n == "sameuser" || n == "samerole" || strings.HasPrefix(n, "+"):
			out[i] = n
		default:
			out[i] = `"` + n + `"`
		}
	}
	return strings.Join(out, ",")
}
