package location

// The settings of a place that it may be able to tell.
const (
	SettingEncryption = "encryption" // of what lies there, beside ours
	SettingLock       = "lock"       // what keeps an object from being deleted
	SettingVersions   = "versions"   // whether old versions of an object are kept
	SettingRegion     = "region"
)

// SettingNames are all settings, in the order in which they are shown.
var SettingNames = []string{SettingEncryption, SettingLock, SettingVersions, SettingRegion}

// None is the value of a setting that is switched off.
const None = "none"

// Settings are what a place says about itself, each in its own words.
type Settings struct {
	Told map[string]string `json:"told"`
	// Untold says of the others why they are not known.
	Untold map[string]string `json:"untold,omitempty"`
}

// Unasked returns settings of which nothing is known, for one reason.
func Unasked(why string) Settings {
	s := Settings{Told: map[string]string{}, Untold: map[string]string{}}
	for _, name := range SettingNames {
		s.Untold[name] = why
	}
	return s
}

// Tell notes an answer.
func (s Settings) Tell(name, value string) {
	s.Told[name] = value
	delete(s.Untold, name)
}
