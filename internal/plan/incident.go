package plan

// Incidents says how the company answers incidents.
type Incidents struct {
	// Phases are the company's own names of the five phases, in order.
	//
	// Defaults to detection, assessment, containment, recovery, review.
	Phases []string `yaml:"phases"`
	// Sources are where incidents come from: monitoring, a customer, a scan.
	Sources []string `yaml:"sources"`
	// Roles are those who answer, by their place: commander, communication, ….
	Roles map[string]string `yaml:"roles"`
	// Channels are where the company talks about it: "chat:#incidents", "mailto:…".
	Channels map[string]string `yaml:"channels"`
	// Escalation says who is told when.
	Escalation map[string]Escalation `yaml:"escalation"`
	// Updates says how often customers are told.
	Updates *Updates `yaml:"updates"`
	// Review is the look back after the incident.
	Review *PostReview `yaml:"review"`
	// Feeds are what the look back feeds: "risks", "management-report", ….
	Feeds []string `yaml:"feeds"`
}

// An Escalation tells somebody more.
type Escalation struct {
	// When it happens, in the policy's words or as a severity.
	When string `yaml:"when"`
	// To names the roles, people or channels.
	To []string `yaml:"to" plan:"required"`
	// By is the way: "email", "chat", "phone".
	By string `yaml:"by"`
	// After is how long after the incident began.
	After Objective `yaml:"after"`
}

// Updates says how those affected are kept informed.
type Updates struct {
	Every    Objective `yaml:"every"`    // how often while it goes on
	Channels []string  `yaml:"channels"` // "status-page", "email"
	// After says what is told when it is over.
	After []string `yaml:"after"`
	// StatusPage says when the page is used, in the policy's words.
	StatusPage string `yaml:"status_page"`
}

// A PostReview is the look back after an incident.
type PostReview struct {
	// For are the severities that need one; without it, all.
	For []string  `yaml:"for"`
	Due Objective `yaml:"due"` // how long after the end
	// Must are the parts of its document: "timeline", "root-cause", ….
	Must []string `yaml:"must"`
	By   string   `yaml:"by"` // the role or person who writes it
	// ActionsDue is how long an action may take that names no day.
	ActionsDue Period `yaml:"actions_due"`
}
