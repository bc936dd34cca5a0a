//! Ruby: Sinatra.

use super::services::Service;
use super::{begun, host, left_out, push, shows};

/// Makes gems of the system's packages of Sinatra and what it needs.
const GEMS: &str = "
require 'fileutils'
require 'rubygems/package'
require 'tmpdir'
specs = {}
add = lambda do |name|
  next if specs[name]
  specs[name] = Gem::Specification.find_by_name(name)
  specs[name].runtime_dependencies.each { |it| add.(it.name) }
end
%w[sinatra webrick].each(&add)
specs.each_value do |spec|
  Dir.mktmpdir do |folder|
    # Some have a folder of their own, others are in that of all packages.
    if File.exist?(spec.full_gem_path)
      FileUtils.cp_r(\"#{spec.full_gem_path}/.\", folder)
    else
      FileUtils.mkdir(\"#{folder}/lib\")
      FileUtils.cp_r(Dir[\"/usr/lib/ruby/vendor_ruby/#{spec.name}{,.rb}\"], \"#{folder}/lib\")
    end
    Dir.chdir(folder) do
      spec.files = Dir['**/*'].select { |it| File.file?(it) }
      spec.executables.select! { |it| File.file?(\"#{spec.bindir}/#{it}\") }
      Gem::Package.build(spec, true, false, \"#{ARGV[0]}/gems/#{spec.file_name}\")
    end
  end
end
";

/// The gems are the system's, from a server of the test's own: rubygems.org is not wherever the other registries are.
#[test]
fn sinatra_without_a_procfile() {
    if left_out(&["python3", "ruby", "bundle", "gem"]) {
        return;
    }
    let gems = Service::files(&format!(
        "mkdir gems; cat >gems.rb <<'X'\n{GEMS}X\nruby gems.rb $PWD; gem generate_index -d ."
    ));
    let host = host();
    let app = "require 'sinatra'\nget('/') { 'hello from sinatra' }\nrun Sinatra::Application\n";
    let manifest = format!(
        "source 'http://127.0.0.1:{}'\ngem 'sinatra'\ngem 'webrick'\n",
        gems.port
    );
    let make = format!("cat >Gemfile <<'X'\n{manifest}X\nHOME=$PWD/.. bundle lock");
    let checkout = begun(&host, &[("config.ru", app)], &make);
    let remote = push(&checkout);
    assert!(remote.contains("bundle install"), "{remote}");
    shows(&host, "/", "hello from sinatra", &remote);
}
