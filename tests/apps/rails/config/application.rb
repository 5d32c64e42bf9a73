# Rails in one file, with nothing but what answers a request.
require "rails"
require "action_controller/railtie"
require "logger"
require "securerandom"

class Sample < Rails::Application
  config.eager_load = true
  config.logger = Logger.new($stdout)
  config.hosts.clear
  config.secret_key_base = ENV["SECRET_KEY_BASE"] || SecureRandom.hex(64)
end
